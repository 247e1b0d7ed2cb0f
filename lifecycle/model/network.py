"""The network itself, from its shape: transformers' own classes, so that what is trained is what everybody can load."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers.models.auto.modeling_auto import AutoModelForCausalLM
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.attention import Attention, implementation
from lifecycle.model.gpt2 import Gpt2Config
from lifecycle.model.llama import build, here

NO_DROPOUT: dict[str, dict[str, float]] = {
    "llama": {"attention_dropout": 0.0},
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
}


def network(model: ModelConfig | Gpt2Config, *, attention: Attention, seed: int, **ids: int) -> Any:
    """A fresh network in fp32, its weights a function of `seed` alone. `ids`: vocab_size, max_seq_len, bos_id, ..."""
    if isinstance(model, ModelConfig):
        return build(model.llama(**ids), attention=attention, seed=seed)
    torch.manual_seed(seed)
    chosen = implementation(attention, device=here(), tokens=ids["max_seq_len"])
    return GPT2LMHeadModel(GPT2Config(**model.gpt2(**ids), attn_implementation=chosen))


def loaded(folder: Path, *, attention: Attention, seed: int, max_seq_len: int) -> Any:
    """The network of a model folder in fp32, to be trained further: without dropout, as `network` makes them."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation=implementation(attention, device=here(), tokens=max_seq_len),
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
        **NO_DROPOUT[json.loads((folder / "config.json").read_bytes())["model_type"]],
    )


def compile_layers(model: Any) -> None:
    """Have torch compile the layers when they first run: one after the other is the same code, compiled once.

    The whole network instead compiles for as many layers, and was no faster at ten million parameters.
    """
    for layer in model.base_model.h if model.config.model_type == "gpt2" else model.base_model.layers:
        layer.compile(dynamic=False)
