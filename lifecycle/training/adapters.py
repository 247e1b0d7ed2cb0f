"""Low-rank adapters: made from our settings, and merged into the base with a proof that nothing changed.

# B batch, T tokens, V vocabulary
"""

import importlib.util
import os
from collections.abc import Callable
from typing import Any

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


def quantization(config: Lora | None) -> dict[str, Any]:
    """How the base is loaded in 4 bits, where that is asked for (Dettmers et al. 2023, section 3)."""
    if config is None or config.quantized_base is None:
        return {}
    missing = [name for name, is_there in _needed().items() if not is_there]
    if missing:
        raise ConfigError(
            f"lora.quantized_base={config.quantized_base!r} needs a GPU and the package bitsandbytes, found no "
            f"{' and no '.join(missing)}. Leave it out: LoRA on the whole base learns the same, in more memory."
        )
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=config.quantized_base,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": settings, "device_map": {"": int(os.environ.get("LOCAL_RANK", "0"))}}


def _needed() -> dict[str, bool]:
    return {
        "GPU": torch.cuda.is_available(),
        "bitsandbytes": importlib.util.find_spec("bitsandbytes") is not None,
    }


@torch.no_grad()
def merged(model: peft.PeftModel, base: Callable[[], Any], probe_BT: torch.Tensor) -> tuple[Any, float]:
    """The plain model that answers as `model` does, and the largest difference of their logits, computed in fp32.

    `base` loads the base in fp32: one that was held in 4 bits is replaced by what its 4 bits say, for PEFT's own
    merge would round the sum of base and update to 4 bits again. Raises WorkerFailed when the logits differ.
    """
    if getattr(model.get_base_model(), "is_loaded_in_4bit", False):
        model = _on_dequantized(model, base())
    model.eval()
    probe_BT = probe_BT.to(model.device)
    before_BTV = model(input_ids=probe_BT, use_cache=False).logits.float()
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


def _on_dequantized(model: peft.PeftModel, plain: Any) -> peft.PeftModel:
    """The adapter of `model` on `plain`, whose weights become those that 4 bits hold."""
    for name, module in model.get_base_model().named_modules():
        inner = getattr(module, "base_layer", module)
        state = getattr(getattr(inner, "weight", None), "quant_state", None)
        if state is not None:
            functional = importlib.import_module("bitsandbytes.functional")
            weight = functional.dequantize_4bit(inner.weight.data, state)
            plain.get_submodule(name.removesuffix(".base_layer")).weight.copy_(weight)
    on_plain = peft.get_peft_model(plain.to(model.device), model.peft_config["default"])
    peft.set_peft_model_state_dict(on_plain, peft.get_peft_model_state_dict(model))
    return on_plain
