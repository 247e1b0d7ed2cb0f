"""Quality filters, one family a file. A family is a frozen model of thresholds with a method
`drop(text) -> Drop | None`.

A new family: a file here, a field in `QualityRules`, a line in `QualityRules.drop`.
"""

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.filters.c4 import C4Rules
from lifecycle.data.filters.gopher import GopherRules
from lifecycle.data.filters.repetition import RepetitionRules
from lifecycle.data.filters.verdict import Drop

__all__ = ["Drop", "QualityRules"]


class QualityRules(BaseModel):
    """All families, in the order in which they are asked; None switches a family off."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    gopher: GopherRules | None = Field(GopherRules(), description="Does it look like prose at all?")
    repetition: RepetitionRules | None = Field(RepetitionRules(), description="Does it say the same again and again?")
    c4: C4Rules | None = Field(C4Rules(), description="Is it a page's scaffolding instead of its text?")

    def drop(self, text: str) -> Drop | None:
        """The first rule the text fails; every dropped document has exactly one reason."""
        for family in (self.gopher, self.repetition, self.c4):
            if family is not None and (drop := family.drop(text)) is not None:
                return drop
        return None
