"""Rewards by a model that judges: a sequence classifier with one output, over conversations in our chat protocol."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.models.auto.modeling_auto import AutoModelForSequenceClassification

from lifecycle.chat.protocol import load_tokenizer, protocol_of
from lifecycle.chat.render import render
from lifecycle.errors import ContractError
from lifecycle.evaluation.kinds.suite import Messages


class RewardJudge:
    """A loaded reward model."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.tokenizer, self.protocol = load_tokenizer(folder), protocol_of(folder)
        self.model: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
        if self.model.config.num_labels != 1:
            raise ContractError(
                f"expected a reward model with one output, found {self.model.config.num_labels} in {folder}. A reward "
                "is one number; train it with num_labels=1."
            )
        self.model.config.pad_token_id = self.protocol.pad_id
        self.model.to(device).eval()

    def ids(self, messages: Messages) -> list[int]:
        return render(self.tokenizer, messages).ids

    @torch.inference_mode()
    def rewards(self, rows: Sequence[Sequence[int]]) -> list[float | None]:
        """The reward of each conversation, read at its last token; None where it is no finite number."""
        width = max(map(len, rows))
        pad = self.protocol.pad_id
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=self.model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self.model.device)
        found = self.model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()
        return [round(value, 5) if math.isfinite(value) else None for value in found]
