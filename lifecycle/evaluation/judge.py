"""Rewards by a model that judges: a sequence classifier with one output, over conversations in our chat protocol."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.models.auto.modeling_auto import AutoModelForSequenceClassification

from lifecycle.chat.render import load_renderer
from lifecycle.errors import ContractError
from lifecycle.evaluation.kinds.suite import Messages
from lifecycle.evaluation.padded import padded


class RewardJudge:
    """A loaded reward model."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.renderer = load_renderer(folder)
        self.model: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
        if self.model.config.num_labels != 1:
            raise ContractError(
                f"expected a reward model with one output, found {self.model.config.num_labels} in {folder}. A reward "
                "is one number; train it with num_labels=1."
            )
        if not isinstance(getattr(self.model, "score", None), torch.nn.Linear):
            raise ContractError(
                f"expected a decoder with a linear `score` at its end, found {type(self.model).__name__} in {folder}. "
                "A reward is read at a conversation's last token; use such a model."
            )
        self.model.to(device).eval()

    def ids(self, messages: Messages) -> list[int]:
        return self.renderer.render(messages).ids

    @torch.inference_mode()
    def rewards(self, rows: Sequence[Sequence[int]]) -> list[float | None]:
        """The reward of each conversation, read at its last token; None where it is no finite number.

        By its length: transformers looks for the last id that is not the padding, which passes over a stop token where
        both are one.
        """
        ids_BT, mask_BT = padded(rows, 0, self.model.device, left=False)
        hidden_BTD = self.model.base_model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        last_BD = hidden_BTD[torch.arange(len(rows)), mask_BT.sum(1) - 1]
        found = self.model.score(last_BD)[:, 0].float().tolist()
        return [round(value, 5) if math.isfinite(value) else None for value in found]
