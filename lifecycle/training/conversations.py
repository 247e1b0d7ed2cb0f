"""Conversations as the tensors of one forward: one a row, several a row, or all in one row.

Whatever the layout, a conversation's tokens see only each other, their positions begin at 0, and what is padding is
known by lengths alone: a tokenizer may pad with its stop token, and the stop token is learned.

# B conversations, R rows, T tokens of a row
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

IGNORED = -100  # torch's name for a label outside the loss


class Conversation(Protocol):
    """Both (T,): ids, and 1 where the loss counts."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def assistant_mask(self) -> list[int]: ...


def padded(conversations: Sequence[Conversation], *, pad_id: int) -> dict[str, Tensor]:
    """One conversation a row, padded behind its end: a causal model's real tokens never see what follows them."""
    return _filled([[one] for one in conversations], max(len(one.ids) for one in conversations), pad_id)


def packed(conversations: Sequence[Conversation], *, pad_id: int, row_tokens: int, additive: bool) -> dict[str, Tensor]:
    """Rows of up to `row_tokens`, filled by best fit, and the mask that keeps conversations apart.

    `additive`: the mask is 0 or the least number, as eager attention takes it; else true or false, as sdpa does.
    """
    bins = best_fit([len(one.ids) for one in conversations], row_tokens)
    rows = [[conversations[index] for index in bin] for bin in bins]
    width = max(sum(len(one.ids) for one in row) for row in rows)
    inputs = _filled(rows, width, pad_id)
    block_RT = torch.stack([_blocks([len(one.ids) for one in row], width) for row in rows])
    begins_RT = torch.stack([_begins([len(one.ids) for one in row], width) for row in rows])
    seen_R1TT = (block_RT[:, None, :, None] == block_RT[:, None, None, :]) & torch.ones(width, width).tril().bool()
    if additive:
        seen_R1TT = torch.zeros(seen_R1TT.shape).masked_fill(~seen_R1TT, torch.finfo(torch.float32).min)
    return {**inputs, "position_ids": torch.arange(width) - begins_RT, "attention_mask": seen_R1TT}


def padding_free(conversations: Sequence[Conversation]) -> dict[str, Tensor]:
    """All conversations in one row, end to end, and where each begins; for `training.apart.attention`."""
    lengths = [len(one.ids) for one in conversations]
    width = sum(lengths)
    starts = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return {
        **_filled([list(conversations)], width, 0),
        "position_ids": (torch.arange(width) - _begins(lengths, width))[None],
        "cu_seq_lens_q": starts,  # the name transformers has for it
    }


def best_fit(lengths: Sequence[int], row_tokens: int) -> list[list[int]]:
    """The numbers of the lengths in each row: the longest first, each into the fullest row that has room for it.

    Best-fit decreasing needs at most 11/9 of the fewest rows possible, and 4 more (Johnson et al. 1974, section 3).
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        fitting = [row for row in range(len(rows)) if room[row] >= lengths[index]]
        if fitting:
            row = min(fitting, key=lambda row: (room[row], row))
        else:
            row = len(rows)
            rows.append([])
            room.append(row_tokens)
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows


def _filled(rows: Sequence[Sequence[Conversation]], width: int, pad_id: int) -> dict[str, Tensor]:
    """Ids and labels, (R, T). A conversation's first token is nobody's label: nothing stands before it."""
    ids_RT = torch.full((len(rows), width), pad_id)
    labels_RT = torch.full((len(rows), width), IGNORED)
    for row, conversations in enumerate(rows):
        at = 0
        for one in conversations:
            end = at + len(one.ids)
            ids_RT[row, at:end] = ids = torch.tensor(one.ids)
            labels_RT[row, at:end] = torch.where(torch.tensor(one.assistant_mask).bool(), ids, IGNORED)
            labels_RT[row, at] = IGNORED
            at = end
    return {"input_ids": ids_RT, "labels": labels_RT}


def _blocks(lengths: Sequence[int], width: int) -> Tensor:
    """The number of each position's conversation, (T,); padding is one more, so that it too has something to see."""
    counts = torch.tensor([*lengths, width - sum(lengths)])
    return torch.repeat_interleave(torch.arange(len(counts)), counts)


def _begins(lengths: Sequence[int], width: int) -> Tensor:
    """Where each position's conversation begins, (T,)."""
    starts = torch.tensor([0, *lengths]).cumsum(0)
    return starts[_blocks(lengths, width)]
