"""What is dropped on the numbers of all documents: each step says which go and why, and is counted and sampled here."""

from collections.abc import Callable, Sequence

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
        goes = np.zeros(len(self.catalogue), bool)
        goes[documents] = True
        for number, source in enumerate(self.sources):
            own = self.catalogue.of_source(number)
            out = own[goes[own]]
            entered, dropped = self.tally(own), self.tally(out)
            left = Tally(documents=entered.documents - dropped.documents, bytes=entered.bytes - dropped.bytes)
            reasons = {reason: dropped} if len(out) else {}
            self.funnel.add(source, {step: SourceStep(entered=entered, left=left, dropped=reasons)})
            for document in out[: self.funnel.samples.per_reason].tolist():
                self.funnel.samples.drop(self.catalogue.read(document), Drop(reason, detail(document)))
        self.catalogue.is_in[goes] = False

    def tally(self, documents: I64) -> Tally:
        return Tally(documents=len(documents), bytes=int(self.catalogue.sizes[documents].sum(dtype=np.int64)))

    def name(self, document: int) -> str:
        """A document as a detail names it."""
        found = self.catalogue.read(document)
        return f"{found.id!r} in {found.source}"
