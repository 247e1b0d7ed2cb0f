"""One record per scored item, in Parquet. Every number of a report can be made again from these alone.

`write_items` and `read_items` are the whole file format; `kinds` says what metrics the records of a suite add up to.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow
from pyarrow import parquet
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lifecycle.errors import DamagedArtifact

ITEMS = "items.parquet"

Mode = Literal["greedy", "sampled", "likelihood"]
"""How the model was asked: its most likely answer, a sample of its answers, or the probability of a given text."""


class Item(BaseModel):
    """What came of one item in one mode (and, where several are drawn, one sample).

    What could not be measured has a reason in `unmeasured`, no score, and None for every grade that is not known. It
    is neither wrong nor absent.
    """

    # NaN is no score and infinity no probability: what was not measured says so, with a reason.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    kind: str = Field(description="The suite's kind: which code graded this and adds it up.")
    suite: str
    id: str = Field(description="Unique within the suite and the slice.")
    slice: str = Field("", description="The part of the suite it belongs to; '' where a suite has no parts.")
    cluster: str = Field("", description="Items of one cluster share a passage and are not independent; '': alone.")
    mode: Mode
    sample: int = Field(0, ge=0, description="Number of the sample where one item is answered several times.")
    prompt_digest: str = Field(description="Of what was asked, as ids: equal digests, equal questions.")
    answer: str | None = Field(None, description="What the model said, or the text it was asked the probability of.")
    score: float | None = Field(description="The grade that counts first, higher is better unless the kind says not.")
    grades: dict[str, float | None] = Field(default_factory=dict, description="Every grade: 0 or 1 where it is one.")
    log_probability: float | None = Field(None, description="ln p(answer) under the model, the stop token counted.")
    tokens: int = Field(0, ge=0, description="Of the answer or the scored text, the stop token counted.")
    bytes: int | None = Field(None, ge=1, description="Of the scored text in UTF-8: what bits per byte divides by.")
    unmeasured: str | None = Field(None, description="Why there is no score: logits_not_finite, truncated, ...")

    @model_validator(mode="after")
    def _scored_or_explained(self) -> Self:
        if (self.score is None) != (self.unmeasured is not None):
            raise ValueError(f"expected a score or a reason, found {self.score!r} and {self.unmeasured!r}")
        return self

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What no two records of a report share."""
        return self.suite, self.slice, self.id, self.mode, self.sample


TEXT, REAL = pyarrow.string(), pyarrow.float64()
SCHEMA = pyarrow.schema(
    [
        pyarrow.field("kind", TEXT, nullable=False),
        pyarrow.field("suite", TEXT, nullable=False),
        pyarrow.field("id", TEXT, nullable=False),
        pyarrow.field("slice", TEXT, nullable=False),
        pyarrow.field("cluster", TEXT, nullable=False),
        pyarrow.field("mode", TEXT, nullable=False),
        pyarrow.field("sample", pyarrow.int32(), nullable=False),
        pyarrow.field("prompt_digest", TEXT, nullable=False),
        pyarrow.field("answer", TEXT),
        pyarrow.field("score", REAL),
        pyarrow.field("grades", pyarrow.map_(TEXT, REAL), nullable=False),
        pyarrow.field("log_probability", REAL),
        pyarrow.field("tokens", pyarrow.int64(), nullable=False),
        pyarrow.field("bytes", pyarrow.int64()),
        pyarrow.field("unmeasured", TEXT),
    ]
)


def write_items(folder: Path, items: Iterable[Item]) -> int:
    """Write the records in their order and return how many; the same records give the same bytes."""
    rows = [_as_row(item) for item in items]
    table = pyarrow.Table.from_pylist(rows, schema=SCHEMA)
    parquet.write_table(table, folder / ITEMS, compression="zstd", write_statistics=False)
    return len(rows)


def read_items(folder: Path) -> Iterator[Item]:
    """The records of a report, in the order they were written."""
    path = folder / ITEMS
    try:
        with parquet.ParquetFile(path) as file:  # read_table imports pyarrow.dataset, which takes longer than the rows
            rows = file.read().cast(SCHEMA).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DamagedArtifact(f"{path}: expected item records in Parquet, found: {error}. Evaluate again.") from error
    for number, row in enumerate(rows):
        try:
            yield Item.model_validate({**row, "grades": dict(row["grades"])})
        except (ValidationError, TypeError) as error:
            raise DamagedArtifact(
                f"{path}, row {number}: expected an item record, found: {error}. Evaluate again."
            ) from error


def _as_row(item: Item) -> dict[str, Any]:
    return {**item.model_dump(), "grades": list(item.grades.items())}
