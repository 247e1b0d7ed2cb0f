"""The network itself, from its shape: transformers' Llama, so that what is trained is what everybody can load."""

from typing import Any

import torch
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from lifecycle.model.attention import Attention, implementation
from lifecycle.model.machine import Device


def build(llama: dict[str, Any], *, attention: Attention, seed: int) -> Any:
    """A fresh LlamaForCausalLM in fp32, its weights a function of `seed` alone."""
    torch.manual_seed(seed)
    chosen = implementation(attention, device=here(), tokens=llama["max_position_embeddings"])
    return LlamaForCausalLM(LlamaConfig(**llama, attn_implementation=chosen))


def here() -> Device:
    """What networks are trained on in this process."""
    return "cuda" if torch.cuda.is_available() else "cpu"
