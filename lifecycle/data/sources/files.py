"""Files on this machine: which of a path or folder are read, in which order, and how each is cut."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lifecycle.data import jsonl
from lifecycle.data.documents import Bad, Document, Source
from lifecycle.data.filters import Drop
from lifecycle.data.jsonl import EXCERPT_CHARACTERS, WHOLE, Span, fault_of_text, line_spans, open_bytes, read_lines
from lifecycle.data.sources.parquet import row_group_parts
from lifecycle.data.sources.rows import Origin, Part, Placed, document_of
from lifecycle.errors import DamagedArtifact, InputError
from lifecycle.sealing import files_below

PACKED = (".gz", ".zst")
JSON_LINES = (".jsonl", ".ndjson", ".json")
FORMATS = ".jsonl, .ndjson or .json (with .gz or .zst, or without), or .parquet"
TEXTS_A_SHARD = 10_000  # of a folder with one document a file: their names travel with the shard


class Lines(NamedTuple):
    """Lines of a JSON Lines file."""

    file: Path
    origin: Origin
    span: Span

    def read(self, source: Source, scratch: Path | None) -> Iterator[Document | Bad]:
        """Every line of the span."""
        for line in read_lines(self.file, self.span):
            yield document_of(line, source, self.origin)

    def rows(self, fields: frozenset[str], scratch: Path | None) -> Iterator[Placed]:
        """Every line, parsed."""
        return (Placed(self.origin, line) for line in read_lines(self.file, self.span))


class Texts(NamedTuple):
    """Files of a folder, each one document."""

    folder: Path
    names: tuple[str, ...]

    def read(self, source: Source, scratch: Path | None) -> Iterator[Document | Bad]:
        """Every file, named by its path in the folder."""
        for name in self.names:
            text, fault, excerpt = _read_text(self.folder / name)
            shown = name.encode("utf-8", "backslashreplace").decode()
            fault = fault or ("row_bad_id" if shown != name else fault_of_text(text))
            if fault is not None:
                yield Bad(source.name, shown, Drop(fault, shown), excerpt)
            else:
                assert text is not None
                yield Document(source.name, name, text)

    def rows(self, fields: frozenset[str], scratch: Path | None) -> Iterator[Placed]:
        """None: a text has no fields."""
        raise InputError(f"{self.folder}: expected rows with fields, found a folder of texts. Name a data file or set.")


def parts_of_path(path: Path, shard_bytes: int) -> Iterator[Part]:
    """The parts of one file, or of every file of a folder."""
    if path.is_dir():
        yield from parts_of_folder(path, "**/*", shard_bytes)
    elif path.is_file():
        yield from parts_of_file(path, Origin(path.name, ""), shard_bytes)
    else:
        raise InputError(f"expected a file or folder at {path}, found none. Check the path in the recipe.")


def parts_of_folder(folder: Path, glob: str, shard_bytes: int) -> Iterator[Part]:
    """The parts of every file of a folder that matches, in the order of their names; no format is passed over."""
    names = names_in(folder, glob)
    odd = [name for name in names if format_of(name) is None or not name.isprintable()]
    if odd:
        raise InputError(
            f"{folder}: expected files in {FORMATS}, found {len(odd)} others, such as {odd[:3]}. "
            "Move them, or say which files are meant: path=DataFolder(path=..., glob='**/*.parquet')."
        )
    for name in names:
        yield from parts_of_file(folder / name, Origin(name, f"{name}:"), shard_bytes)


def parts_of_file(path: Path, origin: Origin, shard_bytes: int) -> Iterator[Part]:
    """One file, cut where its format allows it."""
    match format_of(path.name):
        case "parquet":
            yield from row_group_parts(path, origin, shard_bytes)
        case "packed lines":
            yield Lines(path, origin, WHOLE)
        case "lines":
            yield from (Lines(path, origin, span) for span in line_spans(path, shard_bytes))
        case None:
            raise InputError(
                f"{path}: expected a name in {FORMATS}, found another. Rename or convert the file; if each file of a "
                "folder is one text, say path=TextFolder(path=..., glob=...)."
            )


def parts_of_texts(folder: Path, glob: str, shard_bytes: int) -> Iterator[Part]:
    """The files of a folder that match, in the order of their names, in groups of about `shard_bytes`."""
    group: list[str] = []
    size = 0
    for name in names_in(folder, glob):
        file_bytes = (folder / name).stat().st_size
        if group and (size + file_bytes > shard_bytes or len(group) == TEXTS_A_SHARD):
            yield Texts(folder, tuple(group))
            group, size = [], 0
        group.append(name)
        size += file_bytes
    yield Texts(folder, tuple(group))


def names_in(folder: Path, glob: str) -> list[str]:
    """The names of the files below `folder` that match, sorted. They are among those whose bytes are its identity."""
    if not folder.is_dir():
        raise InputError(f"expected a folder at {folder}, found none. Check the path in the recipe.")
    try:
        below = sorted(files_below(folder))
    except DamagedArtifact as error:  # it is no artifact
        raise InputError(str(error)) from error
    try:
        matched = set(folder.glob(glob))
    except (ValueError, NotImplementedError) as error:
        raise InputError(
            f"{folder}: expected a pattern such as '**/*.txt', found {glob!r} ({error}). Change it."
        ) from error
    if not (names := [name for name in below if folder / name in matched]):
        raise InputError(
            f"{folder}: expected files that match {glob!r}, found none of {len(below)}. Check the pattern."
        )
    return names


def stored_bytes(path: Path) -> int:
    """The size of a file, or of every file below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def format_of(name: str) -> str | None:
    """What a file is read as, by its name."""
    stem, suffix = Path(name.lower()).stem, Path(name.lower()).suffix
    if suffix == ".parquet":
        return "parquet"
    if suffix in JSON_LINES:
        return "lines"
    return "packed lines" if suffix in PACKED and Path(stem).suffix in JSON_LINES else None


def _read_text(path: Path) -> tuple[str | None, str | None, str]:
    """A file's text, what is wrong with it, and how it starts. A torn archive is one bad document, not a bad folder."""
    try:
        with open_bytes(path) as file:
            raw = file.read(jsonl.MAX_LINE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        if getattr(error, "errno", None) is not None:  # not what is in the file, but that it cannot be had
            raise InputError(f"{path}: expected a readable file, found: {error}. Check the file.") from error
        return None, "row_unreadable", str(error)[:EXCERPT_CHARACTERS]
    excerpt = raw[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
    if len(raw) > jsonl.MAX_LINE_BYTES:
        return None, "row_too_long", excerpt
    try:
        return raw.decode("utf-8"), None, excerpt
    except UnicodeDecodeError:
        return None, "row_not_utf8", excerpt
