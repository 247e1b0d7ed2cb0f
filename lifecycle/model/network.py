"""The network itself, from its shape: transformers' own classes, so that what is trained is what everybody can load."""

from typing import Any

import torch
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.gpt2 import Gpt2Config
from lifecycle.model.llama import Attention, build, implementation


def network(model: ModelConfig | Gpt2Config, *, attention: Attention, seed: int, **ids: int) -> Any:
    """A fresh network in fp32, its weights a function of `seed` alone. `ids`: vocab_size, max_seq_len, bos_id, ..."""
    if isinstance(model, ModelConfig):
        return build(model.llama(**ids), attention=attention, seed=seed)
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(**model.gpt2(**ids), attn_implementation=implementation(attention)))
