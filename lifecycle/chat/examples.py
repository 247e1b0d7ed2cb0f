"""Rows of demonstrations and comparisons as token ids, checked one by one. A row that is too long is left out or cut
behind an answer, and counted; never inside one: half an answer teaches to stop in the middle, or not at all."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from lifecycle.chat import parity
from lifecycle.chat.render import Rendered, Renderer
from lifecycle.chat.structure import ASSISTANT, Messages, Unrenderable
from lifecycle.errors import ContractError

TOO_LONG = "longer_than_max_seq_len"
TooLong = Literal["drop", "cut"]

Row = Mapping[str, Any]


class Check(Protocol):
    """One more thing that must hold for the messages and ids of a row; raises when it does not."""

    def __call__(self, messages: Messages, ids: Sequence[int], *, row: str) -> None: ...


def nothing_more(messages: Messages, ids: Sequence[int], *, row: str) -> None:
    """No further check."""


class Demonstration(NamedTuple):
    """One conversation, both (T,): ids, and 1 where the loss counts."""

    source: str
    ids: list[int]
    assistant_mask: list[int]


class Comparison(NamedTuple):
    """One pair: the prompt up to and with <|assistant|>, and two answers that end with the stop token."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def length(self) -> int:
        """Tokens of the longer sequence, prompt included."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))


class Demonstrated(NamedTuple):
    rows: list[Demonstration]
    dropped: dict[str, int]
    cut: int = 0
    """Conversations that lost their last turns, and no part of an answer."""

    def supervised_share(self, source: str | None = None) -> float:
        """Share of tokens the loss covers, of one source or of all."""
        rows = [row for row in self.rows if source in (None, row.source)]
        return sum(sum(row.assistant_mask) for row in rows) / max(1, sum(len(row.ids) for row in rows))

    @property
    def sources(self) -> list[str]:
        return sorted({row.source for row in self.rows})


class Compared(NamedTuple):
    rows: list[Comparison]
    dropped: dict[str, int]

    @property
    def supervised_share(self) -> float:
        """Share of the tokens of both sequences of every pair that the loss compares."""
        answers = sum(len(row.chosen_ids) + len(row.rejected_ids) for row in self.rows)
        return answers / max(1, answers + 2 * sum(len(row.prompt_ids) for row in self.rows))


def demonstrations(
    renderer: Renderer,
    rows: Iterable[Row],
    *,
    max_seq_len: int,
    too_long: TooLong = "drop",
    also: Check = nothing_more,
) -> Demonstrated:
    """Every row (id, source, messages) that fits, rendered and checked, with what else is asked in `also`.

    All rows are lists in memory; `training.prepared.prepare` gives the same rows in flat files, many times as fast.
    """
    kept: list[Demonstration] = []
    dropped: Counter[str] = Counter()
    cut = 0
    for row in rows:
        messages = row["messages"]
        try:
            renderer.must_be_served_alike(messages)
            rendered = renderer.render(messages)
            if len(rendered.ids) > max_seq_len:
                shorter = cut_to_fit(renderer, messages, max_seq_len) if too_long == "cut" else None
                if shorter is not None:
                    cut, messages, rendered = cut + 1, shorter, renderer.render(shorter)
        except Unrenderable as refused:
            dropped[refused.reason] += 1
            continue
        if len(rendered.ids) > max_seq_len:
            dropped[TOO_LONG] += 1
            continue
        parity.check(renderer, messages, rendered, row=str(row["id"]))
        also(messages, rendered.ids, row=str(row["id"]))
        kept.append(Demonstration(str(row.get("source", "")), rendered.ids, rendered.assistant_mask))
    return Demonstrated(kept, dict(dropped), cut)


def cut_to_fit(renderer: Renderer, messages: Messages, max_seq_len: int) -> Messages | None:
    """The longest beginning of a conversation that ends with an answer and fits; None where none does.

    An answer stays whole, and so does a call of tools with what follows up to the assistant's next text.
    """
    ends = [at + 1 for at, message in enumerate(messages) if message["role"] == ASSISTANT and message["content"]]
    for end in reversed(ends[:-1]):
        if len(renderer.render(messages[:end]).ids) <= max_seq_len:
            return messages[:end]
    return None


def comparisons(renderer: Renderer, rows: Iterable[Row], *, max_seq_len: int, also: Check = nothing_more) -> Compared:
    """Every row (id, prompt, chosen, rejected) whose two conversations fit, rendered and checked."""
    kept: list[Comparison] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        try:
            prompt = renderer.render(row["prompt"], generation_prompt=True).ids
            for side in ("chosen", "rejected"):
                renderer.must_be_served_alike([*row["prompt"], *row[side]])
            chosen, rejected = (renderer.render([*row["prompt"], *row[side]]) for side in ("chosen", "rejected"))
        except Unrenderable as refused:
            dropped[refused.reason] += 1
            continue
        if max(len(chosen.ids), len(rejected.ids)) > max_seq_len:
            dropped[TOO_LONG] += 1
            continue
        for side, rendered in (("chosen", chosen), ("rejected", rejected)):
            whole, name = [*row["prompt"], *row[side]], f"{row['id']} ({side})"
            parity.check(renderer, whole, rendered, row=name)
            also(whole, rendered.ids, row=name)
        pair = Comparison(prompt, _answer(chosen, prompt), _answer(rejected, prompt))
        if pair.chosen_ids == pair.rejected_ids:
            raise ContractError(
                f"row {row['id']}: expected two different answers, found the same one twice. "
                "It prefers nothing; remove it from the comparisons."
            )
        kept.append(pair)
    return Compared(kept, dict(dropped))


def most_rows_fit(dropped: Mapping[str, int], kept: int, *, max_dropped_share: float, max_seq_len: int) -> None:
    """Raise when more rows were left out than the config allows, or nothing is left to learn from."""
    lost = sum(dropped.values())
    if kept == 0 or lost > max_dropped_share * (kept + lost):
        raise ContractError(
            f"expected at most {max_dropped_share:.1%} of the rows to be left out, found {lost} of {kept + lost} "
            f"({dict(dropped)}) with max_seq_len {max_seq_len}. Shorten the conversations, or pack longer shards."
        )


def _answer(rendered: Rendered, prompt: list[int]) -> list[int]:
    """What follows the prompt; the prompt is a prefix because `parity.prefixes_agree` held."""
    return rendered.ids[len(prompt) :]
