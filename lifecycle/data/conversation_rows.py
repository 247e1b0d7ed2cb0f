"""One source of conversations through every step that looks at one row: read, language, rules, held-out items.

What is left is written once; of each row 96 bytes of numbers stay in memory, whatever it says.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from lifecycle.data.answers import AnswerRules, answers_of
from lifecycle.data.clean_shards import NUMBERS, CleanShard
from lifecycle.data.conversation_sources import BadRow, Conversation, ConversationSource, Reading
from lifecycle.data.conversations import Message, answer_key, prompt_key, said, user_text
from lifecycle.data.corpus_report import SourceStep, StepName, Tally
from lifecycle.data.decontaminate import HeldOut
from lifecycle.data.dedup import digests
from lifecycle.data.demonstrations_report import Kinds
from lifecycle.data.documents import Bad, Document
from lifecycle.data.filters import Drop
from lifecycle.data.funnel import Funnel, passed
from lifecycle.data.histograms import LENGTH_EDGES, NO_SCORE, count_lengths
from lifecycle.data.language import LanguageRule, loaded_model
from lifecycle.data.order import U64, hash64
from lifecycle.data.records import record_text

BLOCK_ROWS = 2_048
ONE_ROW = Tally(documents=1)
NOT_FOUND, BY_PROMPT, BY_NGRAM = 0, 1, 2
COLUMNS = np.dtype([("prompt", "<u8", 2), ("found", "u1"), ("item", "<i4"), ("end", "<u8")])


class RowRules(NamedTuple):
    """The steps on single rows; None: off."""

    quality: AnswerRules | None
    language: LanguageRule | None
    language_from_characters: int
    held_out: HeldOut
    compiled: bool


class Gathered(NamedTuple):
    """A source's usable rows: as documents to compare, as rows to write, and what is known of each."""

    documents: CleanShard
    rows: CleanShard
    prompts: U64
    found: NDArray[np.uint8]
    item: NDArray[np.int32]
    kinds: Kinds
    dropped_lengths: NDArray[np.int64]
    languages: dict[str, Tally]
    first_bad: str


class Gathering:
    """Reads one source into files of a scratch folder. `number` is its place among the sources."""

    def __init__(
        self, source: ConversationSource, number: int, rules: RowRules, funnel: Funnel, *, label: str, seed: int
    ) -> None:
        self.source, self.number, self.rules, self.funnel = source, number, rules, funnel
        self.label, self.seed = label, seed
        self.first_bad = ""
        self.dropped_lengths = np.zeros(len(LENGTH_EDGES) - 1, np.int64)
        self.languages: dict[str, Tally] = {}
        self.kinds = {"conversations": 0, "with_system": 0, "with_several_answers": 0, "with_tools": 0}
        self.numbers: list[NDArray[np.void]] = []
        self.columns: list[NDArray[np.void]] = []
        self.ends = [0, 0]
        self._item_of = {name: at for at, name in enumerate(rules.held_out.names)}

    def gather(self, scratch: Path, split: str) -> Gathered:
        """Every row read, counted and written. `split` parts files whose rows are not copies of each other's."""
        reading = Reading(self.source, scratch)
        files = [scratch / f"{self.number:03}-{what}.jsonl" for what in ("documents", "rows")]
        with files[0].open("wb") as documents, files[1].open("wb") as rows:
            for block in self._blocks(reading):
                self._write(self._through(block), split, documents, rows)
        numbers = np.concatenate([np.empty(0, NUMBERS), *self.numbers])
        columns = np.concatenate([np.empty(0, COLUMNS), *self.columns])
        paths = [file.with_suffix(".npy") for file in files]
        np.save(paths[0], numbers)
        np.save(paths[1], columns)
        compared, written = (
            CleanShard(self.number, self.number, len(numbers), file, path)
            for file, path in zip(files, paths, strict=True)
        )
        kinds = Kinds(shape=str(reading.shape), licence=self.source.licence, **self.kinds)
        prompts, found, item = (columns[name].copy() for name in ("prompt", "found", "item"))
        return Gathered(
            compared, written, prompts, found, item, kinds, self.dropped_lengths, self.languages, self.first_bad
        )

    def _blocks(self, reading: Iterable[Conversation | BadRow]) -> Iterator[list[Conversation]]:
        """Usable rows in blocks; the others are counted."""
        self.funnel.add(self.label, {"read": SourceStep(entered=Tally(), left=Tally())})
        rest = iter(reading)
        while found := list(islice(rest, BLOCK_ROWS)):
            for bad in found:
                if isinstance(bad, BadRow):
                    self._quarantine(bad)
            block = [one for one in found if isinstance(one, Conversation)]
            sizes = [_bytes(one.messages) for one in block]
            self.funnel.add(self.label, {"read": passed(sizes, sizes, {})})
            yield block

    def _quarantine(self, bad: BadRow) -> None:
        counts = SourceStep(entered=ONE_ROW, left=Tally(), dropped={bad.fault: ONE_ROW})
        self.funnel.add(self.label, {"read": counts})
        self.funnel.samples.quarantine(Bad(self.label, bad.id, Drop(bad.fault, bad.where), bad.excerpt))
        self.first_bad = self.first_bad or f"{bad.where}: {bad.fault} in {bad.excerpt!r}"

    def _through(self, block: list[Conversation]) -> list[Conversation]:
        """What language and rules leave of a block."""
        for one in block:
            roles = [message["role"] for message in one.messages]
            self.kinds["conversations"] += 1
            self.kinds["with_system"] += roles[0] == "system"
            self.kinds["with_several_answers"] += roles.count("user") > 1
            self.kinds["with_tools"] += any(message.get("tool_calls") for message in one.messages)
        if self.rules.language is not None:
            block = self._drop("language", block, self._identify(block, self.rules.language))
        if self.rules.quality is not None:
            block = self._drop("quality", block, [self.rules.quality.drop(one.messages) for one in block])
        return block

    def _identify(self, block: list[Conversation], rule: LanguageRule) -> list[Drop | None]:
        """Short answers are no evidence of a language, and stay."""
        answers = ["\n".join(answer for _, answer in answers_of(one.messages)) for one in block]
        long = [at for at, text in enumerate(answers) if len(text) >= self.rules.language_from_characters]
        drops: list[Drop | None] = [None] * len(block)
        for at, language in zip(long, loaded_model(rule).identify([answers[at] for at in long]), strict=True):
            drops[at] = rule.drop(language)
            size = Tally(documents=1, bytes=_bytes(block[at].messages))
            self.languages[language.code] = self.languages.get(language.code, Tally()) + size
        return drops

    def _drop(self, step: StepName, block: list[Conversation], drops: list[Drop | None]) -> list[Conversation]:
        left: list[Conversation] = []
        dropped: dict[str, list[int]] = {}
        lengths: list[int] = []
        for one, drop in zip(block, drops, strict=True):
            if drop is None:
                left.append(one)
                continue
            dropped.setdefault(drop.reason, []).append(_bytes(one.messages))
            lengths.append(len(compared_text(one.messages)))
            if self.funnel.samples.wants(self.label, drop.reason):
                self.funnel.samples.drop(Document(self.label, one.id, shown(one.messages)), drop)
        self.dropped_lengths += count_lengths(lengths)
        entered, stayed = ([_bytes(one.messages) for one in rows] for rows in (block, left))
        self.funnel.add(self.label, {step: passed(entered, stayed, dropped)})
        return left

    def _write(self, block: list[Conversation], split: str, documents: IO[bytes], rows: IO[bytes]) -> None:
        texts = [compared_text(one.messages) for one in block]
        written = [
            [
                orjson.dumps({"source": self.label, "id": one.id, "text": text}, option=orjson.OPT_APPEND_NEWLINE)
                for one, text in zip(block, texts, strict=True)
            ],
            [
                orjson.dumps(
                    {"id": one.id, "source": self.source.name, "messages": one.messages},
                    option=orjson.OPT_APPEND_NEWLINE,
                )
                for one in block
            ],
        ]
        prompts = [prompt_key(one.messages) for one in block]
        numbers, columns = np.zeros(len(block), NUMBERS), np.zeros(len(block), COLUMNS)
        numbers["id"] = digests(one.id.encode() for one in block)
        numbers["text"] = digests(
            "\x1d".join((split, prompt, answer_key(one.messages))).encode()
            for one, prompt in zip(block, prompts, strict=True)
        )
        numbers["place"] = [hash64("conversation", self.seed, self.source.name, one.id) for one in block]
        numbers["bytes"] = [_bytes(one.messages) for one in block]
        numbers["characters"] = list(map(len, texts))
        numbers["score"] = NO_SCORE
        columns["prompt"] = digests(prompt.encode() for prompt in prompts)
        columns["found"], columns["item"] = self._search(block, prompts)
        for at, (file, lines, ends) in enumerate(zip((documents, rows), written, (numbers, columns), strict=True)):
            ends["end"] = self.ends[at] + np.cumsum([len(line) for line in lines], dtype=np.uint64)
            self.ends[at] += sum(map(len, lines))
            file.write(b"".join(lines))
        self.numbers.append(numbers)
        self.columns.append(columns)

    def _search(self, block: list[Conversation], prompts: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """How each row is about a held-out item, and which one."""
        held_out, by, item = self.rules.held_out, np.zeros(len(block), np.uint8), np.full(len(block), -1, np.int32)
        owned = [user_text(one.messages) if one.record is None else record_text(one.record) for one in block]
        for at, name in held_out.search(owned, compiled=self.rules.compiled).items():
            by[at], item[at] = BY_NGRAM, self._item_of[name]
        for at, prompt in enumerate(prompts):
            if (asked := held_out.prompts.get(prompt)) is not None:
                by[at], item[at] = BY_PROMPT, self._item_of[asked]
        return by, item


def compared_text(messages: Iterable[Message]) -> str:
    """What near-copies are told by: prompt and answers together, without the system turn that many rows share."""
    return "\n".join(said(message) for message in messages if message["role"] != "system")


def shown(messages: Iterable[Message]) -> str:
    """A conversation for a person to read."""
    return "\n\n".join(f"[{message['role']}] {said(message)}" for message in messages)


def _bytes(messages: Iterable[Message]) -> int:
    return sum(len(said(message).encode()) for message in messages)
