"""Data sets of the Hugging Face hub, streamed at one commit by `datasets`: nothing of them is executed or kept here.

The hub is trusted to serve a commit's own bytes, and `datasets` to cast them; checked is that it is this commit.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lifecycle.data.documents import Bad, Document, Source
from lifecycle.data.sources.parquet import columns_of, documents_of, rows_of, wanted_of
from lifecycle.data.sources.places import HubDataset, without_queries
from lifecycle.data.sources.rows import Origin, Placed
from lifecycle.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import IterableDataset

BATCH_ROWS = 1_024


class HubFile(NamedTuple):
    """File number `file`, from 0, of the `files` that a split has."""

    place: HubDataset
    file: int
    files: int

    def read(self, source: Source, scratch: Path | None) -> Iterator[Document | Bad]:
        """Every row of the file, as it arrives. A row without an id is named by its file's number and its own."""
        origin = self._origin()
        for first, table in self._tables(lambda schema: columns_of(schema, source, origin.file)):
            yield from documents_of(table, source, origin, first)

    def rows(self, fields: frozenset[str], scratch: Path | None) -> Iterator[Placed]:
        """The same, every row as it is."""
        for first, table in self._tables(lambda schema: wanted_of(schema, fields)):
            yield from rows_of(table, self._origin(), first)

    def _origin(self) -> Origin:
        return Origin(f"{_name(self.place)}, file {self.file + 1} of {self.files}", f"{self.file}:")

    def _tables(self, columns_of: "Callable[[pa.Schema], list[str]]") -> "Iterator[tuple[int, pa.Table]]":
        """The rows in batches, each with the number of its first one."""
        name, number = self._origin().file, 1
        try:
            rows = _stream(self.place).shard(self.files, self.file).with_format("arrow")
            for table in rows.iter(BATCH_ROWS):
                yield number, table.select(columns_of(table.schema))
                number += len(table)
        except InputError:
            raise
        except Exception as error:  # of `datasets`, pyarrow, the hub's client or the network
            raise InputError(
                f"{name}: expected to read it, found at row {number} or later: {type(error).__name__}: "
                f"{without_queries(error)}. Check the network; if it is the file, read its rows as they are: "
                "path=Remote(url=..., sha256=...)."
            ) from None  # whose own words may hold a signed URL


def parts_of_hub(place: HubDataset) -> Iterator[HubFile]:
    """A shard for each file of the split; the hub is asked which there are."""
    try:
        files = _stream(place).num_shards
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{_name(place)}: expected to find it on the hub, found {type(error).__name__}: {without_queries(error)}. "
            "Check the names, the revision, the network and, for a gated data set, HF_TOKEN in the environment."
        ) from None
    yield from (HubFile(place, file, files) for file in range(files))


@lru_cache(maxsize=4)  # finding the files of a large set takes the hub many requests
def _stream(place: HubDataset) -> "IterableDataset":
    import datasets

    # With "hf://" a folder of that name beside us is not taken for the data set.
    builder = datasets.load_dataset_builder(f"hf://datasets/{place.repository}", place.config, revision=place.revision)
    # Where the hub does not give it, `datasets` takes what is in its cache, whatever the revision.
    if builder.hash != place.revision:
        raise InputError(
            f"{place.repository}: expected revision {place.revision}, found {builder.hash} in the cache of "
            "`datasets`, since the hub did not give it. Check the network, the names and HF_TOKEN in the environment."
        )
    return builder.as_streaming_dataset(split=place.split)


def _name(place: HubDataset) -> str:
    return f"{place.repository}@{place.revision[:12]} ({place.config or 'default'}, {place.split})"
