"""Where conversations come from: a source has a name, a licence and a shape, and is read row by row."""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lifecycle.data.conversations import Message, fault_of_messages
from lifecycle.data.documents import URL_START
from lifecycle.data.jsonl import EXCERPT_CHARACTERS, MAX_LINE_BYTES, Row
from lifecycle.data.shapes import FIELDS, AlpacaPrompt, Format, Shape, Unusable, messages_of, shape_of_source
from lifecycle.data.sources.places import SavedDataset, TaggedPlace
from lifecycle.data.sources.rows import Placed
from lifecycle.data.sources.shards import parts_of
from lifecycle.errors import InputError

LOOKED_AT = 100  # rows in which the shape of a source is looked for
READ = frozenset({*FIELDS, "instruction", "input", "output", "system", "history", "tools", "record"})


class ConversationSource(BaseModel):
    """One body of conversations."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Its name in rows, counts and reports.")
    path: Path | TaggedPlace = Field(
        description="JSON Lines (.gz, .zst) or Parquet, a folder of them, or a tagged place: a saved or a hub data set."
    )
    licence: str = Field(min_length=1, description="What allows its use, in SPDX terms where there is one.")
    format: Format | Literal["auto"] = Field(
        "auto", description="The shape of its rows; auto: that of the first row that has one. It is in the report."
    )
    alpaca_prompt: AlpacaPrompt = Field(
        "turn",
        description="Of an alpaca row: `turn` is the instruction, a blank line and the input; `stanford` is one of the "
        "two prompts its models were trained on, with an input and without.",
    )
    id_field: str | None = Field("id", description="The field that names a row; rows without it are named by position.")
    max_rows: int | None = Field(None, gt=0, description="Keep at most this many conversations; None: all.")
    weight: float | None = Field(None, gt=0, description="Its part in the mixture, relative to the other weights.")
    max_epochs: float = Field(1.0, ge=1, le=1_000, description="How often a conversation may come, at most.")

    @field_validator("path", mode="before")
    @classmethod
    def _is_no_url(cls, path: object) -> object:
        if isinstance(path, str | Path) and URL_START.match(str(path)):
            raise ValueError("expected a path, found a URL. Pin what it holds: path=Remote(url=..., sha256=...)")
        return path

    @property
    def is_here(self) -> bool:
        """Whether it can be read without a network."""
        return isinstance(self.path, Path | SavedDataset) or self.path.kind in ("data_folder", "text_folder")


class Conversation(NamedTuple):
    """One usable row. Where it has a `record`, that is searched for held-out items and not what the user says."""

    id: str
    messages: list[Message]
    record: object = None


class BadRow(NamedTuple):
    """A row that is no conversation: its name, where it is, why, and how it starts."""

    id: str
    where: str
    fault: str
    excerpt: str


class Reading:
    """The rows of a source in order, each a conversation or what is wrong with it; its shape is known before."""

    def __init__(self, source: ConversationSource, scratch: Path | None = None) -> None:
        self.source = source
        wanted = READ | ({source.id_field} if source.id_field else set())
        rows = chain.from_iterable(part.rows(frozenset(wanted), scratch) for part in parts_of(source.path))
        first = list(islice(rows, LOOKED_AT))
        self._rows = chain(first, rows)
        self.shape = self._shape([placed.line.row for placed in first if placed.line.row is not None])

    def __iter__(self) -> Iterator[Conversation | BadRow]:
        for placed in self._rows:
            yield self._judge(placed)

    def _judge(self, placed: Placed) -> Conversation | BadRow:
        line = placed.line
        found = line.fault or self._conversation(placed.name, line.row or {})
        if isinstance(found, Conversation):
            return found
        path = self.source.path
        file = str(path) if isinstance(path, Path) and path.is_file() else f"{self.source.name}: {placed.origin.file}"
        return BadRow(placed.name, f"{file}:{line.number}", found, line.excerpt)

    def _conversation(self, named: str, row: Row) -> Conversation | str:
        """The row as a conversation, or its fault."""
        identifier = row.get(self.source.id_field) if self.source.id_field else None
        if isinstance(identifier, int) and not isinstance(identifier, bool):
            identifier = str(identifier)
        identifier = named if identifier is None else identifier
        messages = messages_of(row, self.shape, self.source.alpaca_prompt)
        if isinstance(messages, Unusable):
            return messages.fault
        if fault := fault_of_messages(messages, last_role="assistant", tools=True):
            return fault
        if not isinstance(identifier, str) or not identifier or "\0" in identifier:
            return "row_bad_id"
        if sum(len(message["content"] or "") for message in messages) > MAX_LINE_BYTES:
            return "row_too_long"
        return Conversation(identifier, messages, row.get("record"))

    def _shape(self, rows: list[Row]) -> Shape:
        shape = shape_of_source(rows, self.source.format)
        if shape is not None:
            return shape
        if not rows:  # unreadable or empty: counted as what each line is
            return Shape("messages", FIELDS[0])
        asked = "a shape we know" if self.source.format == "auto" else f"the shape {self.source.format!r}"
        raise InputError(
            f"{self.source.name}: expected rows of {asked} ({' / '.join(FIELDS)} with role and content or with from "
            f"and value; or instruction, input and output), found keys {_keys(rows[0])} in the first {len(rows)}. "
            "Rename the fields, or convert the rows to messages."
        )


def _keys(row: Row) -> list[str]:
    return [str(key)[:EXCERPT_CHARACTERS] for key in list(row)[:20]]
