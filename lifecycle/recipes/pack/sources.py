"""Plain-text documents cut from four unpacked packages: a novel, speeches, a manual and a dictionary.

Nothing is cleaned beyond removing markup. Repeats, boilerplate and scraps of text stay as they occur in the
sources, so that the filter and deduplication stages have real work to do.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

from lifecycle.errors import InputError

SECTION_CHARACTERS = 1_600  # a section is closed once it is this long; about 400 tokens of a 2,048-token BPE
# Shares of the three long sources that leave all four near 1.4 million characters, and the pack small.
SPEECH_SHARE = 0.13
MANUAL_SHARE = 0.37
DEFINITION_SHARE = 0.17

EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.\w+")
SENTENCE_END = re.compile(r"(?<=[.?!]) +(?=[A-Z])")


class Document(NamedTuple):
    """One natural unit of text; `id` starts with the name of its source."""

    id: str
    text: str


def hashed_share(text: str) -> float:
    """A number in [0, 1) that depends on `text` alone, on every machine and in every Python."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def into_sections(paragraphs: Iterable[str], *, separator: str) -> Iterator[str]:
    """Consecutive paragraphs joined into sections; only a single paragraph can exceed the limit by itself."""
    section: list[str] = []
    length = 0
    for paragraph in paragraphs:
        if section and length + len(paragraph) > SECTION_CHARACTERS:
            yield separator.join(section)
            section, length = [], 0
        section.append(paragraph)
        length += len(paragraph)
    if section:
        yield separator.join(section)


def files_in(folder: Path, pattern: str) -> list[Path]:
    """The matching files, sorted by name. None at all means the package is not unpacked where we were told."""
    files = sorted(folder.glob(pattern))
    if not files:
        raise InputError(
            f"expected files {pattern!r} in {str(folder)!r}, found none. "
            f"Unpack the package there; `lifecycle.recipes.pack.rebuild` lists the commands."
        )
    return files


def moby_dick(package: Path) -> Iterator[Document]:
    """Sections of whole paragraphs from every chapter, with the table of contents, etymology and extracts."""
    for file in files_in(package / "data", "*.txt"):
        if file.stem == "data":  # the whole book once more
            continue
        paragraphs = [" ".join(block.split()) for block in file.read_text("utf-8").split("\n\n")]
        for number, section in enumerate(into_sections(filter(None, paragraphs), separator="\n\n")):
            yield Document(f"moby-dick/{file.stem}/{number:02}", section)


def state_of_the_union(package: Path) -> Iterator[Document]:
    """A hashed sample of sections of whole sentences from every address since 1790 (the files have no paragraphs)."""
    for file in files_in(package / "data", "*.txt"):
        sentences = SENTENCE_END.split(" ".join(file.read_text("utf-8").split()))
        for number, section in enumerate(into_sections(sentences, separator=" ")):
            document = Document(f"state-of-the-union/{file.stem}/{number:03}", section)
            if section and hashed_share(document.id) < SPEECH_SHARE:
                yield document


class ManualPage(HTMLParser):
    """Collects the headings, paragraphs and listings of one page as sections that each begin with a heading."""

    SKIPPED = frozenset({"script", "style", "svg", "form", "head", "button"})
    HEADINGS = frozenset({"h1", "h2", "h3", "h4"})
    LISTS_AND_TABLES = frozenset({"li", "ul", "ol", "dl", "dt", "dd", "tr", "table"})
    BLOCKS = HEADINGS | LISTS_AND_TABLES | {"p", "div", "pre", "blockquote", "br", "center"}
    NAVIGATION = frozenset({"nosearch", "fancy_toc"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: list[list[str]] = [[]]
        self._pieces: list[str] = []
        self._skipped_depth = 0
        self._navigation_depth = 0
        self._in_listing = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.SKIPPED:
            self._skipped_depth += 1
        if tag == "div" and (self._navigation_depth or dict(attrs).get("class") in self.NAVIGATION):
            self._navigation_depth += 1
        if tag in self.BLOCKS:
            self._close_paragraph()
        if tag in self.HEADINGS and self.sections[-1]:
            self.sections.append([])
        self._in_listing = self._in_listing or tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag in self.BLOCKS:
            self._close_paragraph()
        if tag in self.SKIPPED:
            self._skipped_depth = max(0, self._skipped_depth - 1)
        if tag == "div":
            self._navigation_depth = max(0, self._navigation_depth - 1)
        self._in_listing = self._in_listing and tag != "pre"

    def handle_data(self, data: str) -> None:
        if not (self._skipped_depth or self._navigation_depth):
            self._pieces.append(data)

    def close(self) -> None:
        super().close()
        self._close_paragraph()

    def _close_paragraph(self) -> None:
        text = "".join(self._pieces)
        self._pieces = []
        text = text.strip("\n").rstrip() if self._in_listing else " ".join(text.split())
        if text.strip():
            self.sections[-1].append(text)


MANUAL_FOLDERS = (".", "c3ref", "releaselog", "session")
# Generated indexes and machine output (no sentences), a contract, and `capi3ref`, which is all of `c3ref/` once more.
MANUAL_LEFT_OUT = re.compile(
    r"doc_.*_crossref|keyword_index|requirements|syntaxdiagrams|sqlanalyze|np1queryprob|consortium_agreement.*|capi3ref"
)


def sqlite_manual(package: Path) -> Iterator[Document]:
    """A hashed sample of pages of the manual, the C interface and the release notes; one section per heading or more.

    The release notes of one version repeat those of others and of the page `changes`: real near-duplicates.
    """
    root = package / "usr/share/doc/sqlite3"
    for file in (file for folder in MANUAL_FOLDERS for file in files_in(root / folder, "*.html")):
        name = file.relative_to(root).with_suffix("").as_posix()
        if MANUAL_LEFT_OUT.fullmatch(name) or hashed_share(f"sqlite-manual/{name}") >= MANUAL_SHARE:
            continue
        page = ManualPage()
        page.feed(file.read_text("utf-8", errors="replace"))
        page.close()
        sections = (section for block in page.sections for section in into_sections(block, separator="\n\n"))
        for number, section in enumerate(sections):
            yield Document(f"sqlite-manual/{name}/{number:03}", section)


ABOVE = frozenset({"@", "@i", "&"})  # is a kind of, is an instance of, is close to (an adjective)


class Synset(NamedTuple):
    """One meaning: its words, the id of the meaning above it (its own id for a root) and its gloss with examples."""

    id: str
    words: list[str]
    parent: str
    gloss: str


def read_synsets(file: Path) -> Iterator[Synset]:
    """The meanings in one `data.*` file; format: WordNet's wndb(5WN)."""
    for line in file.read_text("utf-8").splitlines():
        if line.startswith(" "):  # the licence, at the head of every file
            continue
        head, gloss = line.split(" | ", maxsplit=1)
        fields = head.split()
        word_count = int(fields[3], 16)
        words = [re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * word_count : 2]]
        pointers = fields[5 + 2 * word_count :]
        above = [pointers[at + 1] for at, symbol in enumerate(pointers) if symbol in ABOVE]
        is_cluster_head = fields[2] == "a"
        yield Synset(fields[0], words, fields[0] if is_cluster_head or not above else above[0], gloss.strip())


def wordnet(package: Path) -> Iterator[Document]:
    """A hashed sample of definition groups with usage examples: a meaning, then the meanings directly below it."""
    for file in files_in(package / "dict", "data.*"):
        synsets = {synset.id: synset for synset in read_synsets(file)}
        groups: dict[str, list[Synset]] = {}
        for synset in synsets.values():
            groups.setdefault(synset.parent, []).append(synset)
        for parent, members in groups.items():
            document_id = f"wordnet/{file.suffix[1:]}/{parent}"
            if hashed_share(document_id) >= DEFINITION_SHARE:
                continue
            ordered = [synsets[parent], *(member for member in members if member.id != parent)]
            entries = [f"{', '.join(synset.words)}: {synset.gloss}" for synset in ordered]
            for number, section in enumerate(into_sections(entries, separator="\n")):
                if '"' in section:  # an example sentence is quoted
                    yield Document(f"{document_id}/{number:02}", section)
