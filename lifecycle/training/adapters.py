"""Low-rank adapters: made from our settings, and merged into the base with a proof that nothing changed.

# B batch, T tokens, V vocabulary
"""

import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any, Literal

import peft
import torch
import transformers

from lifecycle.errors import ConfigError, WorkerFailed
from lifecycle.training.post import Lora

MERGE_TOLERANCE = 1e-4
"""Of the largest logit. In fp32 a merge rounds each weight once: the tests see less than 1e-6."""


def adapter(config: Lora | None) -> peft.LoraConfig | None:
    """PEFT's form of our settings."""
    if config is None:
        return None
    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        use_dora=config.dora,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def quantization(config: Lora | None, precision: Literal["bf16", "fp32"] = "bf16") -> dict[str, Any]:
    """How the base is loaded in 4 bits, where that is asked for (Dettmers et al. 2023, section 3)."""
    if config is None or config.quantized_base is None:
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"lora.quantized_base={config.quantized_base!r} needs the package bitsandbytes, found none. "
            "pip install 'llm-lifecycle[qlora]', or leave it out: LoRA on the whole base learns the same, in more "
            "memory."
        )
    sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]  # with it bitsandbytes fetches code from a hub
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=config.quantized_base,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
    )
    device = int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"
    return {"quantization_config": settings, "device_map": {"": device}}


def keep_layout(model: Any) -> None:
    """Have a base in 4 bits keep the layout it was loaded in.

    On a CPU with AVX-512 bf16, bitsandbytes 0.50 turns a layer over to one for inference alone when it is first asked
    without gradients, as a measurement does; later training steps then pass no gradient back through it, unsaid.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


@torch.no_grad()
def merged(model: peft.PeftModel, base: Callable[[], Any], probe_BT: torch.Tensor) -> tuple[Any, float]:
    """The plain model that answers as `model` does, and the largest difference of their logits, computed in fp32.

    `base` loads the base in fp32: one that was held in 4 bits is replaced by what its 4 bits say, for PEFT's own
    merge would round the sum of base and update to 4 bits again. The logits compared are those of the model that was
    trained, its 4 bits computed with in fp32. Raises WorkerFailed when they differ.
    """
    model.eval()
    for layer in _in_4_bits(model).values():
        layer.compute_dtype = torch.float32
    probe_BT = probe_BT.to(model.device)
    before_BTV = model(input_ids=probe_BT, use_cache=False).logits.float()
    if getattr(model.get_base_model(), "is_loaded_in_4bit", False):
        model = _on_dequantized(model, base()).eval()
    plain = model.merge_and_unload(safe_merge=True)
    difference = float((plain(input_ids=probe_BT, use_cache=False).logits.float() - before_BTV).abs().max())
    largest = float(before_BTV.abs().max())
    if not difference <= MERGE_TOLERANCE * largest:
        raise WorkerFailed(
            f"expected a merged model with the logits of its adapter to {MERGE_TOLERANCE:g} of the largest "
            f"({largest:.3g}), found a difference of {difference:.3g}. Nothing was written; train without lora.dora, "
            "or with a lower lora.alpha."
        )
    return plain, difference


def _in_4_bits(model: peft.PeftModel) -> dict[str, Any]:
    """The layers of the base that are held in 4 bits, by the names they have in the base."""
    layers = ((name, getattr(module, "base_layer", module)) for name, module in model.get_base_model().named_modules())
    return {
        name.removesuffix(".base_layer"): layer
        for name, layer in layers
        if getattr(getattr(layer, "weight", None), "quant_state", None) is not None
    }


def _on_dequantized(model: peft.PeftModel, plain: Any) -> peft.PeftModel:
    """The adapter of `model` on `plain`, whose weights become those that 4 bits hold."""
    functional = importlib.import_module("bitsandbytes.functional")
    for name, layer in _in_4_bits(model).items():
        weight = functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        plain.get_submodule(name).weight.copy_(weight)
    on_plain = peft.get_peft_model(plain.to(model.device), model.peft_config["default"])
    peft.set_peft_model_state_dict(on_plain, peft.get_peft_model_state_dict(model))
    return on_plain
