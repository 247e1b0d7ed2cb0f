"""Where text comes from: a source is a body of text with a name, a licence and a field that holds the text."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lifecycle.data.filters import Drop
from lifecycle.data.sources.places import DataFolder, SavedDataset, TaggedPlace, TextFolder, without_credentials
from lifecycle.sealing import later_field

URL_START = re.compile(r"[a-z][a-z0-9+]+:/")  # a Path has lost the second slash


class Source(BaseModel):
    """One body of text."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Its name in counts, metrics and reports.")
    path: Path | TaggedPlace = Field(
        description="A .jsonl or .parquet file (.jsonl also as .gz or .zst), a folder of them, or a tagged place."
    )
    licence: str = Field(min_length=1, description="What allows its use, in SPDX terms where there is one.")
    text_field: str = Field("text", description="The field of a row that holds its text; 'record' for contract rows.")
    id_field: str | None = later_field(
        "id", description="The field that names a row; None: rows are named by position."
    )
    is_prose: bool = Field(True, description="False exempts it from the quality rules, which are rules for prose.")
    max_bytes: int | None = Field(None, gt=0, description="Keep at most this many bytes of clean text; None: all.")
    weight: float | None = later_field(
        None,
        gt=0,
        description="Its part in the mixture, relative to the other weights; None: as much as there is of it.",
    )
    max_epochs: float = later_field(
        1.0, ge=1, le=10_000, description="How often its documents may come, at most, to reach its weight."
    )

    @property
    def is_here(self) -> bool:
        """Whether it can be read without a network."""
        return isinstance(self.path, Path | DataFolder | TextFolder | SavedDataset)

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, said: Any) -> Any:
        return without_credentials(said)

    @field_validator("path", mode="before")
    @classmethod
    def _is_no_url(cls, path: Any) -> Any:
        if isinstance(path, str | Path) and URL_START.match(str(path)):
            raise ValueError("expected a path, found a URL. Pin what it holds: path=Remote(url=..., sha256=...)")
        return path


class Document(NamedTuple):
    """One text and where it is from; (source, id) is unique."""

    source: str
    id: str
    text: str


class Bad(NamedTuple):
    """A row that is no document: where it is, why, and how it starts."""

    source: str
    id: str
    drop: Drop
    excerpt: str
