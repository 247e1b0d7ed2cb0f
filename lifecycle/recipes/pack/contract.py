"""The contract task: given a short record of a Debian package, return one field as JSON, null when it is absent.

Rows and preference pairs are made from the package index by rule. Splits are separate by source family, and then
`decontaminate` drops what they still share.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lifecycle.errors import InputError
from lifecycle.recipes.pack.sources import hashed_share

Fact = str | int
Row = dict[str, Any]
Split = Literal["test", "dev", "preferences-heldout", "preferences-train", "train"]

# The share of source families that hash into each split, and the rows kept of it. Evaluation comes first: where two
# splits share something, the later one loses the row.
SPLIT_SHARES: dict[Split, float] = {
    "test": 0.15,
    "dev": 0.05,
    "preferences-heldout": 0.03,
    "preferences-train": 0.12,
    "train": 0.65,
}
SPLIT_ROWS: dict[Split, int] = {
    "test": 1_500,
    "dev": 500,
    "preferences-heldout": 200,
    "preferences-train": 1_000,
    "train": 10_000,
}

# Values that are one or two tokens of a small vocabulary. Names, versions and sizes are shown but never asked for: to
# copy them a model of 1M parameters has to learn induction, and after 400 steps of 32 it had not (0 of 170 versions and
# source names, 1 of 111 sizes). Nor is the priority: 99 in 100 packages say "optional".
ASKED = ("section", "architecture", "multi_arch", "role")
# Few packages share a version or a size. Every record shows at least one of them, so that it can be held out even
# with its names removed.
IDENTIFYING = ("version", "installed_size")
NAMES = ("package", "source")
ABSENT_SHARE = 0.2
CHATTY_SHARE = 0.5
# The share of preference pairs whose rejected answer is wrong; in the others it is right, but chatty.
WRONG_SHARE_WHEN_PRESENT = 0.18
WRONG_SHARE_WHEN_ABSENT = 0.50
# Longer names (1 in 10) and versions (1 in 5) could push a row over 128 tokens of a small BPE.
MAX_NAME_CHARACTERS = 24
MAX_VERSION_CHARACTERS = 14
NGRAM_WORDS = 8

PROMPT = 'Return "{field}" from this record as JSON, null when absent.\n{record}'
CHATTY_FORMS = (
    "Sure, here it is: {answer}",
    "The record says {answer}.",
    "I looked at the record and found {answer}.",
    "Here is the field you asked for: {answer}",
)


class Package(NamedTuple):
    """One binary package: its name, the source package it is built from, and what a record may show of it."""

    name: str
    source: str
    facts: dict[str, Fact]


def family(source: str) -> str:
    """The letters of a source name, so that `gcc-11` and `gcc-12`, the same software twice, are one family."""
    return re.sub("[^a-z]", "", source)


def read_packages(index: Path) -> Iterator[Package]:
    """The packages in an apt index that have a size, a short name and a short version."""
    if not index.is_file():
        raise InputError(
            f"expected an apt package index at {str(index)!r}, found no file. "
            f"Write it there; `lifecycle.recipes.pack.rebuild` gives the command."
        )
    for stanza in index.read_text("utf-8").strip().split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*(?:\n .*)*)", stanza, re.MULTILINE))
        is_short = len(fields["Package"]) <= MAX_NAME_CHARACTERS and len(fields["Version"]) <= MAX_VERSION_CHARACTERS
        if is_short and "Installed-Size" in fields:
            yield package_from(fields)


def package_from(fields: dict[str, str]) -> Package:
    """The package of one index entry. Neither its maintainer nor its description is read.

    Several roles would make several right answers, so only a single one becomes a fact. A source of the package's own
    name is not written in the index, and so is no fact here either.
    """
    name = fields["Package"]
    source = fields.get("Source", name).split()[0]
    roles = re.findall(r"role::([a-z-]+)", fields.get("Tag", ""))
    facts: dict[str, Fact] = {
        "section": fields["Section"],
        "priority": fields["Priority"],
        "architecture": fields["Architecture"],
        "version": fields["Version"],
        "installed_size": int(fields["Installed-Size"]),
    }
    if "Multi-Arch" in fields:
        facts["multi_arch"] = fields["Multi-Arch"]
    if len(roles) == 1:
        facts["role"] = roles[0]
    if source != name and len(source) <= MAX_NAME_CHARACTERS:
        facts["source"] = source
    return Package(name, source, facts)


def one_per_family(packages: Iterable[Package]) -> list[Package]:
    """One package of each source family, picked and ordered by hash: the rows of a split are independent draws."""
    first: dict[str, Package] = {}
    for package in sorted(packages, key=lambda package: (hashed_share(package.name), package.name)):
        first.setdefault(family(package.source), package)
    return list(first.values())


def split_of(package: Package) -> Split:
    """The split that the package's source family hashes into."""
    position = hashed_share(f"split/{family(package.source)}")
    for split, share in SPLIT_SHARES.items():
        if position < share:
            return split
        position -= share
    return "train"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def terse(field: str, value: Fact | None) -> str:
    """The answer the contract asks for: one JSON object and nothing else."""
    return record_text({field: value})


def record_text(record: dict[str, Fact | None]) -> str:
    """Compact JSON: an answer repeats the tokens it was read from, and no blank stands between a field and its value.

    400 SFT steps on one base gave 0.68 right with `field: value` lines, 0.87 with JSON, 0.99 with compact JSON.
    """
    return json.dumps(record, separators=(",", ":"))


def ask(package: Package) -> Row:
    """A question about a record of the package name and 2 to 4 facts in shuffled order.

    `value` is None where the record does not show the field. Null is about the record, not about the package: the
    right value from memory is a wrong answer.
    """
    draw = random.Random(f"ask/{package.name}")
    is_absent = draw.random() < ABSENT_SHARE
    field = draw.choice([field for field in ASKED if is_absent or field in package.facts])
    shown = [draw.choice(IDENTIFYING), *([] if is_absent else [field])]
    others = [name for name in package.facts if name != field and name not in shown]
    shown += draw.sample(others, k=draw.randint(2, 4) - len(shown))
    draw.shuffle(shown)
    shown.insert(draw.randint(0, len(shown)), "package")
    record = {name: package.name if name == "package" else package.facts[name] for name in shown}
    return {"source_package": package.source, "record": record, "field": field, "value": record.get(field)}


def question(row: Row) -> dict[str, str]:
    return user(PROMPT.format(field=row["field"], record=record_text(row["record"])))


def demonstration(row: Row, *, chatty_share: float) -> Row:
    """The row with a correct conversation, in the terse style or inside a sentence."""
    draw = random.Random(f"style/{row['id']}")
    answer = terse(row["field"], row["value"])
    is_chatty = draw.random() < chatty_share
    text = draw.choice(CHATTY_FORMS).format(answer=answer) if is_chatty else answer
    return row | {"style": "chatty" if is_chatty else "terse", "messages": [question(row), assistant(text)]}


def comparison(row: Row, rows: Sequence[Row]) -> Row:
    """The row with a terse right answer preferred to a chatty right one, or to a terse wrong one.

    A wrong answer is another value of the same record, or, where null is right, a value invented by taking it from
    another of `rows`.
    """
    draw = random.Random(f"pair/{row['id']}")
    field, value = row["field"], row["value"]
    answer = terse(field, value)
    if draw.random() >= (WRONG_SHARE_WHEN_ABSENT if value is None else WRONG_SHARE_WHEN_PRESENT):
        rule, rejected = "terse_over_chatty", draw.choice(CHATTY_FORMS).format(answer=answer)
    elif value is None:
        elsewhere = [other["value"] for other in rows if other["field"] == field and other["value"] is not None]
        rule, rejected = "null_over_invented", terse(field, draw.choice(elsewhere))
    else:
        misplaced = draw.choice([other for other in row["record"].values() if other != value])
        rule, rejected = "right_over_misplaced", terse(field, misplaced)
    sides = {"prompt": [question(row)], "chosen": [assistant(answer)], "rejected": [assistant(rejected)]}
    return row | sides | {"rule": rule}


def content(row: Row) -> frozenset[tuple[str, Fact]]:
    """What the record says once the names are removed."""
    return frozenset((field, value) for field, value in row["record"].items() if field not in NAMES)


def ngrams(text: str) -> set[tuple[str, ...]]:
    """Every run of `NGRAM_WORDS` words, split at whitespace and punctuation, in lower case."""
    words = re.findall(r"[^\W_]+", text.lower())
    return set(zip(*(words[start:] for start in range(NGRAM_WORDS)), strict=False))


def decontaminate(rows: dict[Split, list[Row]]) -> tuple[dict[Split, list[Row]], dict[str, dict[str, int]]]:
    """The rows of each split that share nothing with an earlier split, and how many were dropped, by reason.

    Families are separate already. On top of that no two splits share a record content, names aside, nor any run of
    8 words of a record. At most `SPLIT_ROWS` are kept of each.
    """
    kept: dict[Split, list[Row]] = {}
    dropped: dict[str, dict[str, int]] = {}
    seen_contents: set[frozenset[tuple[str, Fact]]] = set()
    seen_ngrams: set[tuple[str, ...]] = set()
    for split, limit in SPLIT_ROWS.items():
        reasons: Counter[str] = Counter()
        kept[split] = []
        for row in rows[split]:
            if content(row) in seen_contents:
                reasons["same_content"] += 1
            elif ngrams(record_text(row["record"])) & seen_ngrams:
                reasons["same_8_gram"] += 1
            elif len(kept[split]) < limit:
                kept[split].append(row)
        seen_contents.update(map(content, kept[split]))
        seen_ngrams.update(*(ngrams(record_text(row["record"])) for row in kept[split]))
        dropped[split] = dict(sorted(reasons.items()))
    return kept, dropped


def build_contract(index: Path) -> tuple[dict[Split, list[Row]], dict[str, dict[str, int]]]:
    """Every split's rows, decontaminated and with conversations or pairs, and what was dropped from each."""
    questions: dict[Split, list[Row]] = {split: [] for split in SPLIT_ROWS}
    for package in one_per_family(read_packages(index)):
        questions[split_of(package)].append(ask(package))
    kept, dropped = decontaminate(questions)
    finished: dict[Split, list[Row]] = {}
    for split, rows in kept.items():
        named = [{"id": f"{split}-{number:05}", **row} for number, row in enumerate(rows)]
        if split.startswith("preferences"):
            finished[split] = [comparison(row, named) for row in named]
        else:
            chatty_share = CHATTY_SHARE if split == "train" else 0
            finished[split] = [demonstration(row, chatty_share=chatty_share) for row in named]
    return finished, dropped


def majority_answer_share(rows: Sequence[Row]) -> float:
    """What always giving the single commonest answer would score."""
    answers = Counter(terse(row["field"], row["value"]) for row in rows)
    return max(answers.values()) / len(rows)


def majority_per_field_share(rows: Sequence[Row]) -> float:
    """What giving the commonest answer for the field asked, without reading the record, would score."""
    by_field: dict[str, Counter[str]] = {}
    for row in rows:
        by_field.setdefault(row["field"], Counter())[terse(row["field"], row["value"])] += 1
    return sum(max(answers.values()) for answers in by_field.values()) / len(rows)
