"""Quality filters, one family a file. A family is a frozen model of thresholds; each threshold names its paper.

A new family: a file here, a field in `QualityRules`, a line in `judge`. `batch` and what it imports are the same rules
compiled, for inputs big enough to pay for it; `judge_all` chooses, and the answers do not depend on its choice.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.filters.c4 import C4LineRules, C4Rules
from lifecycle.data.filters.fineweb import FineWebRules
from lifecycle.data.filters.gopher import GopherRules
from lifecycle.data.filters.repetition import RepetitionRules
from lifecycle.data.filters.verdict import Drop, Verdict

__all__ = [
    "C4LineRules",
    "C4Rules",
    "Drop",
    "FineWebRules",
    "GopherRules",
    "QualityRules",
    "RepetitionRules",
    "Verdict",
]

COMPILED_FROM_CHARACTERS = 32_000_000
BATCH_CHARACTERS = 8_000_000  # bounds the arrays; a longer text is a batch by itself


class QualityRules(BaseModel):
    """All families, in the order in which they are asked, which is FineWeb's; None switches a family off."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    gopher: GopherRules | None = Field(GopherRules(), description="Does it look like prose at all?")
    repetition: RepetitionRules | None = Field(RepetitionRules(), description="Does it say the same again and again?")
    c4: C4Rules | None = Field(C4Rules(), description="Is it placeholder text, code, or a page's buttons?")
    fineweb: FineWebRules | None = Field(FineWebRules(), description="Is it a page's scaffolding instead of its text?")

    def judge(self, text: str) -> Verdict:
        """The text as it stays, or the first rule it fails; every dropped document has exactly one reason."""
        for family in (self.gopher, self.repetition):
            if family is not None and (drop := family.drop(text)) is not None:
                return Verdict(drop, text)
        verdict = Verdict(None, text) if self.c4 is None else self.c4.judge(text)
        if verdict.drop is None and self.fineweb is not None:
            verdict = verdict._replace(drop=self.fineweb.drop(verdict.text))
        return verdict

    def drop(self, text: str) -> Drop | None:
        """The first rule the text fails."""
        return self.judge(text).drop

    def judge_all(self, texts: Sequence[str], *, compiled: bool | None = None) -> list[Verdict]:
        """`judge` of each text. Compiled code takes seconds to get ready, so by default only big inputs use it."""
        if compiled is None:
            compiled = sum(map(len, texts)) >= COMPILED_FROM_CHARACTERS
        if not compiled:
            return [self.judge(text) for text in texts]
        from lifecycle.data.filters.batch import judge_families  # imports numba

        verdicts: list[Verdict] = []
        for batch in _batches(texts):
            verdicts += judge_families(batch, self.gopher, self.repetition, self.c4, self.fineweb)
        return verdicts


def _batches(texts: Sequence[str]) -> list[Sequence[str]]:
    starts, size = [0], 0
    for index, text in enumerate(texts):
        if size and size + len(text) > BATCH_CHARACTERS:
            starts.append(index)
            size = 0
        size += len(text)
    return [texts[start:end] for start, end in zip(starts, [*starts[1:], len(texts)], strict=True)]
