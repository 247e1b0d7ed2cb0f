"""Which network answers: our `Llama` where its numbers are proven equal to transformers', else the model as it is."""

from typing import Any

import torch
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from lifecycle.evaluation.llama import Llama
from lifecycle.evaluation.padded import Padded, padded
from lifecycle.evaluation.prefix_tree import MIN_SHARED

STEADY_ROPES = ("default", "linear", "llama3")  # the angles depend on the position alone
TOLERANCE = 1e-3


def faster(model: Any) -> Any:
    """The same network as a `Llama` where it is one whose numbers come out equal, else the model itself."""
    if not _is_plain_llama(model):
        return model
    fast = Llama(model)
    return fast if _equal(model, fast) else model


def network_of(model: Any) -> Any:
    """What `read`s rows and goes on behind them by `step`s."""
    return model if isinstance(model, Llama) else Padded(model)


def _is_plain_llama(model: Any) -> bool:
    """The architecture that the recipes train, without the options that `Llama` does not know."""
    config = model.config
    return (
        type(model) is LlamaForCausalLM
        and config.hidden_act == "silu"
        and not (config.attention_bias or config.mlp_bias)
        and config.rope_parameters["rope_type"] in STEADY_ROPES
        and all(weight.dtype in (torch.float32, torch.bfloat16) for weight in model.parameters())
    )


@torch.inference_mode()
def _equal(model: Any, fast: Llama) -> bool:
    """Both say the same about rows that begin alike, and one token on: a later transformers may compute otherwise."""
    ids = [(7 * n) % model.config.vocab_size for n in range(MIN_SHARED + 6)]
    rows = [ids[:-1], [*ids[:MIN_SHARED], *ids[:3]], ids[:2]]
    ids_BT, mask_BT = padded([[*row, 5 % model.config.vocab_size] for row in rows], 0, model.device, left=True)
    found, past = fast.read(rows)
    then = fast.step(past, ids_BT[:, -1:].tolist())
    expected = model(
        ids_BT, attention_mask=mask_BT, position_ids=(mask_BT.cumsum(1) - 1).clamp(min=0), logits_to_keep=2
    )
    return _close(torch.stack([found, then], 1), expected.logits.float(), model.dtype)


def _close(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> bool:
    """Equal up to rounding; where one is no number the other is none either."""
    finite = torch.isfinite(expected)
    scale = TOLERANCE if dtype == torch.float32 else 30 * TOLERANCE
    largest = float(expected[finite].abs().max()) if finite.any() else 1.0
    close = torch.isclose(found, expected, rtol=scale, atol=scale * largest)
    return bool((close | (~finite & ~torch.isfinite(found))).all())
