"""The log-probabilities the loss needs, and no other logits.

# B batch, T tokens, N positions in the loss, V vocabulary, D width
"""

import types
from typing import Any

import peft
import torch
from torch.nn import functional
from trl.trainer.utils import FusedCausalLMOutput

from lifecycle.training.conversations import IGNORED


def score_only_the_loss(model: Any) -> None:
    """Have TRL's scoring forward project only positions in the loss to the vocabulary, in fp32.

    TRL does so on a GPU, with a Triton kernel; on a CPU it projects every position, in tiles, and again in backward.
    1M weights, a vocabulary of 2,048, rows of 98 tokens with 21 in the loss, 1 thread: its step took 2.3 times ours.
    """
    if torch.cuda.is_available():
        return
    model = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    whole = model.forward

    def forward(
        self: Any, *args: Any, fused_lm_head: bool = False, labels: torch.Tensor | None = None, **inputs: Any
    ) -> Any:
        if not fused_lm_head or labels is None:
            return whole(*args, labels=labels, **inputs)
        hidden_BTD = self.base_model(*args, **{**inputs, "use_cache": False}).last_hidden_state[:, :-1]
        targets_BT = labels[:, 1:]
        mask_BT = targets_BT != IGNORED
        with torch.autocast("cpu", enabled=False):
            logits_NV = self.get_output_embeddings()(hidden_BTD[mask_BT].float())
        logprobs_NV = functional.log_softmax(logits_NV, dim=-1)
        target_N1 = targets_BT[mask_BT][:, None]

        def spread(value_N: torch.Tensor) -> torch.Tensor:
            return value_N.new_zeros(mask_BT.shape).masked_scatter(mask_BT, value_N)

        nothing_BT = torch.zeros(mask_BT.shape)  # entropy and mean logits: metrics we do not keep
        return FusedCausalLMOutput(
            log_probs=spread(logprobs_NV.gather(1, target_N1)[:, 0]),
            entropy=nothing_BT,
            mean_logits=nothing_BT,
            is_top1=spread(logits_NV.detach().argmax(-1) == target_N1[:, 0]),
            label_mask=mask_BT,
        )

    model.forward = types.MethodType(forward, model)
