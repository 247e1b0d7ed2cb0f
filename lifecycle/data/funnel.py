"""Counting what happens to every document: entered = left + dropped in each step, and every drop has one reason."""

from collections import Counter
from collections.abc import Sequence

from lifecycle.data.corpus_report import SourceStep, Step, StepName, Tally
from lifecycle.data.documents import Bad, Document
from lifecycle.data.filters import Drop
from lifecycle.data.jsonl import Row
from lifecycle.data.scrub import Scrubbing, scrub

EXCERPT_CHARACTERS = 1_000
BAD_ROW = "row_"  # how the reasons begin that are about a row, not about its text

Steps = dict[StepName, SourceStep]


class Funnel:
    """Counts of every step and source, and the first few dropped documents of every source and reason."""

    def __init__(self, sources: Sequence[str], *, samples_per_reason: int) -> None:
        self.sources = sources
        self.steps: dict[StepName, dict[str, SourceStep]] = {}
        self.samples = Samples(samples_per_reason)

    def add(self, source: str, steps: Steps) -> None:
        """Add what became of one shard, or of one source in one step."""
        for name, step in steps.items():
            counts = self.steps.setdefault(name, {})
            counts[source] = counts[source] + step if source in counts else step

    def read(self, source: str) -> int:
        return self.steps["read"][source].entered.documents

    def dropped(self, source: str) -> dict[str, int]:
        """Documents by reason, in the order of the steps."""
        counts: Counter[str] = Counter()
        for step in self.steps.values():
            if source in step:
                counts.update({reason: tally.documents for reason, tally in step[source].dropped.items()})
        return dict(counts)

    def bad_rows(self, source: str) -> int:
        """Rows that were no documents at all."""
        return sum(count for reason, count in self.dropped(source).items() if reason.startswith(BAD_ROW))

    def report(self) -> list[Step]:
        return [Step(name=name, sources=counts) for name, counts in self.steps.items()]

    def table(self) -> str:
        """For error messages: a line per source and reason."""
        lines = []
        for name in self.sources:
            reasons = Counter(self.dropped(name))
            lines.append(f"  {name}: read {self.read(name)}, dropped {reasons.total()}")
            lines += [f"    {reason:<28}{count:>8}" for reason, count in reasons.most_common()]
        return "\n".join(lines)


class Samples:
    """The first few rows of every source and reason. Shards keep theirs; in their order the first few are the same.

    Where text is scrubbed, samples are too: most of them were dropped before that step.
    """

    def __init__(self, per_reason: int, scrubbing: Scrubbing | None = None) -> None:
        self.per_reason = per_reason
        self.scrubbing = scrubbing
        self.rows: list[Row] = []
        self._kept: Counter[tuple[str, str]] = Counter()

    def wants(self, source: str, reason: str) -> bool:
        return self._kept[source, reason] < self.per_reason

    def drop(self, document: Document, drop: Drop) -> None:
        self._add(document.source, document.id, drop, document.text)

    def quarantine(self, bad: Bad) -> None:
        self._add(bad.source, bad.id, bad.drop, bad.excerpt)

    def take(self, rows: Sequence[Row]) -> None:
        """The samples of one shard and step, after those of the shards before it."""
        for row in rows:
            self._keep(row)

    def _add(self, source: str, identifier: str, drop: Drop, text: str) -> None:
        if self.wants(source, drop.reason):
            row = {"source": source, "id": identifier, "reason": drop.reason, "detail": self._scrubbed(drop.detail)}
            # Scrubbed as a whole, then cut: half a key has no form that could be found.
            self._keep({**row, "text": self._scrubbed(text)[:EXCERPT_CHARACTERS]})

    def _scrubbed(self, text: str) -> str:
        return text if self.scrubbing is None else scrub(text, self.scrubbing).text

    def _keep(self, row: Row) -> None:
        if self.wants(row["source"], row["reason"]):
            self._kept[row["source"], row["reason"]] += 1
            self.rows.append(row)


def passed(entered: Sequence[int], left: Sequence[int], dropped: dict[str, list[int]]) -> SourceStep:
    """A step's counts from the sizes in bytes of what entered, what left, and what was dropped, by reason."""
    return SourceStep(
        entered=tally(entered), left=tally(left), dropped={reason: tally(sizes) for reason, sizes in dropped.items()}
    )


def tally(sizes: Sequence[int]) -> Tally:
    return Tally(documents=len(sizes), bytes=sum(sizes))
