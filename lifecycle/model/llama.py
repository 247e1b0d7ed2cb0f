"""The network itself, from its shape: transformers' Llama, so that what is trained is what everybody can load."""

from typing import Any, Literal

import torch
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

Attention = Literal["auto", "eager", "sdpa", "flash_attention_2"]


def build(llama: dict[str, Any], *, attention: Attention, seed: int) -> Any:
    """A fresh LlamaForCausalLM in fp32, its weights a function of `seed` alone."""
    torch.manual_seed(seed)
    config = LlamaConfig(**llama, attn_implementation=implementation(attention))
    return LlamaForCausalLM(config)


def implementation(attention: Attention) -> str:
    """What `auto` means here. bf16 SDPA is slow on CPUs: eager takes 10-25 % less time a step (T 128, D 128)."""
    if attention != "auto":
        return attention
    return "sdpa" if torch.cuda.is_available() else "eager"
