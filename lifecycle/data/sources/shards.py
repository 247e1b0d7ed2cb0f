"""A source as shards: what one task reads. Their sizes are a setting; documents, ids and order do not depend on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lifecycle.data.documents import Bad, Document, Source
from lifecycle.data.sources.files import parts_of_folder, parts_of_path, parts_of_texts
from lifecycle.data.sources.hub import parts_of_hub
from lifecycle.data.sources.places import (
    DataFolder,
    HubDataset,
    Remote,
    RemoteList,
    SavedDataset,
    TaggedPlace,
    TextFolder,
)
from lifecycle.data.sources.remote import parts_of_remote
from lifecycle.data.sources.rows import Part
from lifecycle.data.sources.saved import parts_of_saved

SHARD_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True)
class SourceShard:
    """One piece of a source, small and picklable: it says what to read and holds no text."""

    source: Source
    index: int
    part: Part


def shards_of(source: Source, *, shard_bytes: int = SHARD_BYTES) -> list[SourceShard]:
    """The source in shards of about `shard_bytes`, as stored, where its format can be cut; in the order of its rows."""
    return [SourceShard(source, index, part) for index, part in enumerate(parts_of(source.path, shard_bytes))]


def read_shard(shard: SourceShard, *, scratch: Path | None = None) -> Iterator[Document | Bad]:
    """Every row of a shard, in order, as a document or as what is wrong with it.

    A remote file is brought into `scratch` (else the system's temporary folder) and removed again. Ids are not
    compared: those of another shard are not known here.
    """
    return shard.part.read(shard.source, scratch)


def parts_of(place: Path | TaggedPlace, shard_bytes: int = SHARD_BYTES) -> Iterator[Part]:
    """What is read of a place, in parts of about `shard_bytes`, as stored, where its format can be cut."""
    match place:
        case Path():
            yield from parts_of_path(place, shard_bytes)
        case DataFolder(path=path, glob=glob):
            yield from parts_of_folder(path, glob, shard_bytes)
        case TextFolder(path=path, glob=glob):
            yield from parts_of_texts(path, glob, shard_bytes)
        case Remote() | RemoteList():
            yield from parts_of_remote(place)
        case HubDataset():
            yield from parts_of_hub(place)
        case SavedDataset():
            yield from parts_of_saved(place)
