"""Rows as training sees them: every token, and which ones the loss covers. For a terminal, and as a page.

The view renders with the sealed tokenizer and the renderer of training; it shows what is learned from, not a drawing
of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from rich.console import Group, RenderableType
from rich.text import Text

from lifecycle.artifacts import Checkpoint, Comparisons, Demonstrations
from lifecycle.chat.render import Renderer, load_renderer
from lifecycle.chat.structure import Unrenderable
from lifecycle.data.jsonl import load_rows
from lifecycle.errors import InputError
from lifecycle.report.templates import html_environment, policy, style_sheet
from lifecycle.report.text import REPLACEMENT, one_line, shown
from lifecycle.runs import Run

LONGEST_PIECE = 200
LONGEST_CHARACTER = 4  # bytes in UTF-8, each of which may be a token
LEGEND = "supervised tokens in green, special tokens in blue; everything else is read and not learned"


class Piece(NamedTuple):
    """One token: its text, its id, whether the loss covers it, and whether it is the protocol's own."""

    text: str
    id: int
    supervised: bool
    special: bool

    @property
    def style(self) -> str:
        """For a page's and a terminal's style sheet."""
        return " ".join(name for name in ("supervised", "special") if getattr(self, name)) or "read"


@dataclass(frozen=True)
class MaskedRow:
    """One conversation of a training file. `left_out` says why no step is taken on it, if so."""

    name: str
    source: str
    pieces: Sequence[Piece]
    left_out: str = ""

    @property
    def supervised(self) -> int:
        return sum(piece.supervised for piece in self.pieces)

    @property
    def headline(self) -> str:
        share = f"{self.supervised} of {len(self.pieces)} tokens in the loss"
        return " · ".join(filter(None, (self.name, self.source, share, self.left_out)))


def of_run(run: Run, stage: str, *, rows: int) -> list[MaskedRow]:
    """The first `rows` conversations that a run's `sft` or `preference` stage trains on."""
    made = {record.kind if record.kind != "Checkpoint" else record.stage: Path(record.path) for record in run.stages}
    noun, before = {"sft": ("Demonstrations", "pretrain"), "preference": ("Comparisons", "sft")}.get(stage, ("", ""))
    if noun not in made or before not in made:
        raise InputError(
            f"expected a run with {noun or 'sft or preference'} data and the checkpoint it trains, found "
            f"{', '.join(made) or 'nothing'} in {run.name}. Name another run, or --stage sft or preference."
        )
    checkpoint = Checkpoint.load(made[before])
    data = Demonstrations.load(made[noun]) if stage == "sft" else Comparisons.load(made[noun])
    found = _conversations(load_rows(data.path / "train.jsonl"))
    renderer = load_renderer(checkpoint.path)
    return [
        _masked(renderer, name, source, messages, checkpoint.max_seq_len)
        for name, source, messages in islice(found, rows)
    ]


def _masked(
    renderer: Renderer, name: str, source: str, messages: Sequence[Mapping[str, Any]], max_seq_len: int
) -> MaskedRow:
    """One conversation; one that the protocol cannot write has no tokens, and its reason."""
    try:
        rendered = renderer.render(messages)
    except Unrenderable as refused:
        return MaskedRow(name, source, [], f"left out: {refused.reason}")
    specials = set(renderer.special_ids.values())
    texts = _texts(renderer.tokenizer, rendered.ids, specials)
    pieces = [
        Piece(text, token, bool(mask), token in specials)
        for text, token, mask in zip(texts, rendered.ids, rendered.assistant_mask, strict=True)
    ]
    fits = len(pieces) <= max_seq_len
    return MaskedRow(name, source, pieces, "" if fits else f"left out: longer than {max_seq_len} tokens")


def _texts(tokenizer: tokenizers.Tokenizer, ids: Sequence[int], specials: AbstractSet[int]) -> list[str]:
    """The text of each token; a character of several tokens stands at the last of them, and is whole."""
    texts: list[str] = []
    begun: list[int] = []  # tokens of a character that is not complete
    for token in ids:
        if token in specials and begun:
            texts[-1] = tokenizer.decode(begun, skip_special_tokens=False)
            begun = []
        begun.append(token)
        text = tokenizer.decode(begun, skip_special_tokens=False)
        is_whole = not text.endswith(REPLACEMENT) or len(begun) == LONGEST_CHARACTER
        texts.append(text if is_whole else "")
        begun = [] if is_whole else begun
    if begun:
        texts[-1] = tokenizer.decode(begun, skip_special_tokens=False)
    return texts


def _conversations(rows: Iterator[Mapping[str, Any]]) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    """Demonstrations as they are; of a comparison both answers, one after the other."""
    for row in rows:
        if "messages" in row:
            yield str(row["id"]), str(row.get("source", "")), row["messages"]
            continue
        for side in ("chosen", "rejected"):
            yield f"{row['id']} ({side})", str(row.get("source", "")), [*row["prompt"], *row[side]]


def screen(rows: Sequence[MaskedRow]) -> RenderableType:
    """The rows for a terminal."""
    styles = {"supervised": "bold green", "special": "blue", "supervised special": "bold green underline", "read": ""}
    lines: list[RenderableType] = [Text(LEGEND, style="dim")]
    for row in rows:
        lines.append(Text(one_line(row.headline, 200), style="bold"))
        line = Text()
        for piece in row.pieces:
            line.append(shown(piece.text, LONGEST_PIECE), style=styles[piece.style])
        lines.append(line)
    return Group(*lines)


def page(rows: Sequence[MaskedRow], title: str) -> str:
    """The rows as one HTML page; a token's id shows when it is pointed at."""
    style = style_sheet()
    template = html_environment().get_template("mask.html.jinja")
    return template.render(rows=rows, title=one_line(title), style=style, policy=policy(style))


def as_data(rows: Sequence[MaskedRow]) -> list[dict[str, Any]]:
    """The same, for programs."""
    return [
        {
            "row": row.name,
            "source": row.source,
            "left_out": row.left_out,
            "ids": [piece.id for piece in row.pieces],
            "tokens": [piece.text for piece in row.pieces],
            "supervised": [int(piece.supervised) for piece in row.pieces],
        }
        for row in rows
    ]
