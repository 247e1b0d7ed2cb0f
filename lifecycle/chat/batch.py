"""Many conversations rendered at once: the ids and masks of `Renderer.render`, in two flat arrays.

A conversation is a chain of texts, which are encoded, and of joins between them, whose ids are known. Texts of all
conversations are encoded together, each distinct one once; then every id is moved to its place by one gather.
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.chat.render import MERGES, Join, Renderer, specials_as_text
from lifecycle.chat.structure import Messages, Unrenderable

U32 = NDArray[np.uint32]
U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
Encode = Callable[[Sequence[str]], tuple[U32, I64]]
"""Texts to their ids in one array, and how many each has; special tokens in a text are text."""


class Batch(NamedTuple):
    """Row i of the conversations is `ids[bounds[i] : bounds[i + 1]]`, and 1 in `mask` where the loss counts.

    A conversation that cannot be rendered has no ids, and its reason in `refused`. `texts` and `learned` are what a row
    says, in the protocol's words, and what of it is supervised: what `ids` and `mask` have to stand for.
    """

    ids: U32
    mask: U8
    bounds: I64
    refused: dict[int, str]
    texts: list[str]
    learned: list[str]


class _Known(NamedTuple):
    """A join that was met: its number, its own text, and the part of it that is learned."""

    number: int
    text: str
    learned: str
    join: Join  # kept, so that no other one gets its id


class _Pieces:
    """The pieces of all conversations, in columns: a text, the join behind it, whether it is learned, and how many ids
    at its start are the prompt's."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer
        self.distinct: dict[str, int] = {}
        self.known: dict[int, _Known] = {}
        self.columns: list[tuple[int, int, int, int]] = []
        self.openings: dict[int, list[int]] = {}  # of the pieces that have one
        self.ends: list[int] = []
        self.texts: list[str] = []
        self.learned: list[str] = []

    def add(self, messages: Messages) -> None:
        """Append a conversation's pieces."""
        said: list[str] = []
        learned: list[str] = []
        columns: list[tuple[int, int, int, int]] = []
        openings: dict[int, list[int]] = {}
        distinct = self.distinct
        for text, join, spoken, opening in self.renderer.pieces(messages):
            known = self.known.get(id(join)) or self._meet(join)
            said += (text, known.text)
            if spoken:
                prompt = self.renderer.tokenizer.decode(opening, skip_special_tokens=False) if opening else ""
                learned += (text[len(prompt) :], known.learned)
                if opening:
                    openings[len(self.columns) + len(columns)] = opening
            columns.append((distinct.setdefault(text, len(distinct)), known.number, spoken, len(opening)))
        self.columns += columns
        self.openings |= openings
        self.close("".join(said), "".join(learned))

    def close(self, text: str = "", learned: str = "") -> None:
        """The conversation is complete; without a text it has no pieces."""
        self.ends.append(len(self.columns))
        self.texts.append(text)
        self.learned.append(learned)

    def _meet(self, join: Join) -> _Known:
        ids = join.ids or []
        text, learned = (
            self.renderer.tokenizer.decode(part, skip_special_tokens=False)
            for part in (ids, ids[: sum(join.supervised)])
        )
        self.known[id(join)] = found = _Known(len(self.known), text, learned, join)
        return found


def render_batch(
    renderer: Renderer, conversations: Sequence[Messages], encode: Encode, *, merged: AbstractSet[int] = frozenset()
) -> Batch:
    """Ids and masks of all conversations, equal to those of `renderer.render` one by one.

    `merged` are those of which a first try has shown that they cannot be rendered.
    """
    pieces, refused = _Pieces(renderer), dict.fromkeys(sorted(merged), MERGES)
    with specials_as_text(renderer.tokenizer):
        for number, messages in enumerate(conversations):
            if number in merged:
                pieces.close()
                continue
            try:
                renderer.must_be_served_alike(messages)
                pieces.add(messages)
            except Unrenderable as error:
                refused[number] = error.reason
                pieces.close()
    text_ids, text_lengths = encode(list(pieces.distinct))
    columns = np.array(pieces.columns, np.int64).reshape(-1, 4)
    if found := _merged(pieces, text_ids, text_lengths):
        return render_batch(renderer, conversations, encode, merged=merged | found)
    joins = [(known.join.ids or [], known.join.supervised) for known in pieces.known.values()]
    ids, mask, places = _gathered(joins, columns, text_ids, text_lengths)
    bounds = places[2 * np.array([0, *pieces.ends])]
    return Batch(ids, mask, bounds, refused, pieces.texts, pieces.learned)


def _gathered(
    joins: Sequence[tuple[list[int], list[int]]], columns: I64, text_ids: U32, text_lengths: I64
) -> tuple[U32, U8, I64]:
    """Ids and mask of all pieces, and where each text and each join begins, with the end of the last."""
    text_of, join_of, spoken, prompt = columns.T
    join_lengths = np.array([len(ids) for ids, _ in joins], np.int64)
    pool = np.concatenate([text_ids, np.array([i for ids, _ in joins for i in ids], np.uint32)])
    masks = np.concatenate([np.zeros(len(text_ids), np.uint8), np.array([b for _, m in joins for b in m], np.uint8)])
    lengths, starts, learned = (np.zeros(2 * len(columns), np.int64) for _ in range(3))
    lengths[0::2], lengths[1::2] = text_lengths[text_of], join_lengths[join_of]
    starts[0::2] = _starts(text_lengths)[text_of]
    starts[1::2] = len(text_ids) + _starts(join_lengths)[join_of]
    learned[0::2] = spoken
    places = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    index = np.repeat(starts - places[:-1], lengths)
    index += np.arange(len(index))
    mask = masks[index] | np.repeat(learned.astype(np.uint8), lengths)
    for at in range(int(prompt.max(initial=0))):
        mask[places[:-1:2][prompt > at] + at] = 0
    return pool[index], mask, places


def _merged(pieces: _Pieces, text_ids: U32, text_lengths: I64) -> set[int]:
    """Conversations in which an answer's first token merges with the prompt: a model would be asked with other ids."""
    starts, merged = _starts(text_lengths), set[int]()
    for number, opening in pieces.openings.items():
        text = pieces.columns[number][0]
        own = text_ids[starts[text] : starts[text] + min(len(opening), int(text_lengths[text]))]
        if own.tolist() != opening:
            merged.add(int(np.searchsorted(pieces.ends, number, side="right")))
    return merged


def _starts(lengths: I64) -> I64:
    """Where each of consecutive parts begins."""
    return np.cumsum(lengths) - lengths
