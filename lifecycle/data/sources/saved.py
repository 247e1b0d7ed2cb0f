"""Data sets that `datasets` saved to a folder: Arrow streams, read a batch at a time and without that library."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lifecycle.data.documents import Bad, Document, Source
from lifecycle.data.sources.parquet import columns_of, documents_of, rows_of, wanted_of
from lifecycle.data.sources.places import SavedDataset
from lifecycle.data.sources.rows import Origin, Placed
from lifecycle.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

STATE, SPLITS = "state.json", "dataset_dict.json"


class ArrowStream(NamedTuple):
    """One of the files of a saved data set."""

    file: Path
    origin: Origin

    def read(self, source: Source, scratch: Path | None) -> Iterator[Document | Bad]:
        """Every row of the file; one without an id is named by its file and its number."""
        for first, batch in self._tables(lambda schema: columns_of(schema, source, str(self.file))):
            yield from documents_of(batch, source, self.origin, first)

    def rows(self, fields: frozenset[str], scratch: Path | None) -> Iterator[Placed]:
        """The same, every row as it is."""
        for first, batch in self._tables(lambda schema: wanted_of(schema, fields)):
            yield from rows_of(batch, self.origin, first)

    def _tables(self, columns_of: "Callable[[pa.Schema], list[str]]") -> "Iterator[tuple[int, pa.RecordBatch]]":
        import pyarrow as pa

        number = 1
        try:
            with pa.memory_map(str(self.file)) as file, pa.ipc.open_stream(file) as stream:
                columns = columns_of(stream.schema)
                for batch in stream:
                    yield number, batch.select(columns)
                    number += len(batch)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{self.file}: expected a readable Arrow stream, found from row {number} on: {error}. Save it again."
            ) from error


def parts_of_saved(place: SavedDataset) -> Iterator[ArrowStream]:
    """A part for each file that the data set lists, in its order."""
    folder = _folder(place)
    listed = _read(folder / STATE).get("_data_files")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    names = [str(entry.get("filename")) for entry in entries]
    if not names or not all(Path(name).name == name for name in names):
        raise InputError(
            f"{folder / STATE}: expected names of Arrow files in this folder, found {names}. Save the data set again."
        )
    for name in names:
        yield ArrowStream(folder / name, Origin(name, f"{name}:"))


def _folder(place: SavedDataset) -> Path:
    """The folder of the split; there is one where a DatasetDict was saved, and none where a Dataset was."""
    if not place.path.is_dir():
        raise InputError(f"expected a saved data set at {place.path}, found no folder. Check the path in the recipe.")
    splits = _read(place.path / SPLITS).get("splits", []) if (place.path / SPLITS).is_file() else None
    if splits is None:
        if place.split is None:
            return place.path
        raise InputError(f"{place.path}: expected splits, found one data set. Leave out split={place.split!r}.")
    if place.split not in splits:
        raise InputError(f"{place.path}: expected one of the splits {splits}, found {place.split!r}. Set split.")
    return place.path / str(place.split)


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"expected a folder that `save_to_disk` wrote, found no readable {file} ({error}). Save the data set again."
        ) from error
