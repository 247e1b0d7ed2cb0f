"""Counting what happens to every document: read = kept + dropped, and every drop has exactly one reason."""

from collections import Counter
from collections.abc import Sequence

from lifecycle.artifacts import SourceCount
from lifecycle.data.documents import Bad, Document, Source
from lifecycle.data.filters import Drop
from lifecycle.data.jsonl import Row

EXCERPT_CHARACTERS = 1_000


class Funnel:
    """Counts and samples of what was dropped, per source and reason, in the order of the steps."""

    def __init__(self, sources: Sequence[Source], *, samples_per_reason: int) -> None:
        self.licences = {source.name: source.licence for source in sources}
        self.read: Counter[str] = Counter()
        self.dropped: dict[str, Counter[str]] = {source.name: Counter() for source in sources}
        self.samples: list[Row] = []
        self.samples_per_reason = samples_per_reason

    def drop(self, document: Document, drop: Drop) -> None:
        self._count(document.source, document.id, drop, document.text)

    def quarantine(self, bad: Bad) -> None:
        self._count(bad.source, bad.id, bad.drop, bad.excerpt)

    def bad_rows(self, source: str) -> int:
        """Rows that were no documents at all."""
        return sum(count for reason, count in self.dropped[source].items() if reason.startswith("row_"))

    def counts(self, kept: Sequence[Document]) -> dict[str, SourceCount]:
        """What each source gave, once the last step is done."""
        documents = Counter(document.source for document in kept)
        size: Counter[str] = Counter()
        for document in kept:
            size[document.source] += len(document.text.encode())
        return {
            name: SourceCount(
                licence=licence,
                read=self.read[name],
                kept=documents[name],
                kept_bytes=size[name],
                dropped=dict(self.dropped[name]),
            )
            for name, licence in self.licences.items()
        }

    def table(self) -> str:
        """For error messages: a line per source and reason."""
        lines = []
        for name, reasons in self.dropped.items():
            lines.append(f"  {name}: read {self.read[name]}, dropped {reasons.total()}")
            lines += [f"    {reason:<28}{count:>8}" for reason, count in reasons.most_common()]
        return "\n".join(lines)

    def _count(self, source: str, identifier: str, drop: Drop, text: str) -> None:
        self.dropped[source][drop.reason] += 1
        if self.dropped[source][drop.reason] <= self.samples_per_reason:
            sample = {"source": source, "id": identifier, "reason": drop.reason, "detail": drop.detail}
            self.samples.append({**sample, "text": text[:EXCERPT_CHARACTERS]})
