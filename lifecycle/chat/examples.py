"""Rows of demonstrations and comparisons as token ids, checked one by one. A row that is too long is left out and
counted, never cut: half an answer teaches the model to stop in the middle, or not at all."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import tokenizers

from lifecycle.chat import parity
from lifecycle.chat.parity import Messages
from lifecycle.chat.render import Rendered, render
from lifecycle.errors import ContractError

TOO_LONG = "longer_than_max_seq_len"

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
    tokenizer: tokenizers.Tokenizer, rows: Iterable[Row], *, max_seq_len: int, also: Check = nothing_more
) -> Demonstrated:
    """Every row (id, source, messages) that fits, rendered and checked, with what else is asked in `also`."""
    kept, too_long = [], 0
    for row in rows:
        rendered = render(tokenizer, row["messages"])
        if len(rendered.ids) > max_seq_len:
            too_long += 1
            continue
        parity.check(tokenizer, row["messages"], rendered, row=str(row["id"]))
        also(row["messages"], rendered.ids, row=str(row["id"]))
        kept.append(Demonstration(str(row.get("source", "")), rendered.ids, rendered.assistant_mask))
    return Demonstrated(kept, {TOO_LONG: too_long} if too_long else {})


def comparisons(
    tokenizer: tokenizers.Tokenizer, rows: Iterable[Row], *, max_seq_len: int, also: Check = nothing_more
) -> Compared:
    """Every row (id, prompt, chosen, rejected) whose two conversations fit, rendered and checked."""
    kept, too_long = [], 0
    for row in rows:
        prompt = render(tokenizer, row["prompt"], generation_prompt=True).ids
        chosen, rejected = (render(tokenizer, [*row["prompt"], *row[side]]) for side in ("chosen", "rejected"))
        if max(len(chosen.ids), len(rejected.ids)) > max_seq_len:
            too_long += 1
            continue
        for side, rendered in (("chosen", chosen), ("rejected", rejected)):
            whole, name = [*row["prompt"], *row[side]], f"{row['id']} ({side})"
            parity.check(tokenizer, whole, rendered, row=name)
            also(whole, rendered.ids, row=name)
        pair = Comparison(prompt, _answer(chosen, prompt), _answer(rejected, prompt))
        if pair.chosen_ids == pair.rejected_ids:
            raise ContractError(
                f"row {row['id']}: expected two different answers, found the same one twice. "
                "It prefers nothing; remove it from the comparisons."
            )
        kept.append(pair)
    return Compared(kept, {TOO_LONG: too_long} if too_long else {})


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
