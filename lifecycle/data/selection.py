"""What is dropped on the numbers of all documents: each step says which go and why, and is counted and sampled here."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.catalogue import Catalogue
from lifecycle.data.corpus_report import SourceStep, StepName, Tally
from lifecycle.data.filters import Drop
from lifecycle.data.funnel import Funnel

I64 = NDArray[np.int64]


class Selection:
    """The documents that are still in, by source."""

    def __init__(self, catalogue: Catalogue, sources: Sequence[str], funnel: Funnel) -> None:
        self.catalogue, self.sources, self.funnel = catalogue, sources, funnel

    def drop(self, step: StepName, reason: str, documents: I64, detail: Callable[[int], str]) -> None:
        """Take these documents out, for one reason; `detail` is asked of the few that are kept as samples."""
        self.drop_each(step, {reason: documents}, detail)

    def drop_each(self, step: StepName, reasons: Mapping[str, I64], detail: Callable[[int], str]) -> None:
        """The same for a step with several reasons; a document that is in two of them goes for the first."""
        goes = np.zeros(len(self.catalogue), np.uint8)
        for number, documents in reversed(list(enumerate(reasons.values(), 1))):
            goes[documents] = number
        for number, source in enumerate(self.sources):
            own = self.catalogue.of_source(number)
            out = {reason: own[goes[own] == place] for place, reason in enumerate(reasons, 1)}
            entered, gone = self.tally(own), self.tally(own[goes[own] > 0])
            left = Tally(documents=entered.documents - gone.documents, bytes=entered.bytes - gone.bytes)
            dropped = {reason: self.tally(documents) for reason, documents in out.items() if len(documents)}
            self.funnel.add(source, {step: SourceStep(entered=entered, left=left, dropped=dropped)})
            for reason, documents in out.items():
                for document in documents[: self.funnel.samples.per_reason].tolist():
                    self.funnel.samples.drop(self.catalogue.read(document), Drop(reason, detail(document)))
        self.catalogue.is_in[goes > 0] = False

    def tally(self, documents: I64) -> Tally:
        return Tally(documents=len(documents), bytes=int(self.catalogue.sizes[documents].sum(dtype=np.int64)))

    def name(self, document: int) -> str:
        """A document as a detail names it."""
        found = self.catalogue.read(document)
        return f"{found.id!r} in {found.source}"
