"""What a filter says of a document, and what a family of rules is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

# What the rules count: numbers for one text, or arrays with one number a text. A rule is written once for both.
Count = Any


class Drop(NamedTuple):
    """Why a document is dropped: the rule's name, and the numbers a person needs to agree or not."""

    reason: str
    detail: str = ""


class Verdict(NamedTuple):
    """What becomes of a text: why it is dropped, or None; what is left of it; and the lines taken out, by reason."""

    drop: Drop | None
    text: str
    removed_lines: dict[str, int] = {}  # noqa: RUF012  # never written to


def at_least_one(count: Count) -> Count:
    """A divisor: 1 where nothing was counted. Works on a number and on an array of them."""
    return count + (count == 0)


class Family(BaseModel, ABC):
    """Rules that look at the same counts. Each rule is written once, for one text and for arrays of counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    counts: ClassVar[type[Any]]

    def drop(self, text: str) -> Drop | None:
        """The first rule the text fails."""
        counts = self.count(text)
        for reason, failed in self.tests(counts):
            if failed:
                return Drop(reason, self.detail(reason, text, counts))
        return None

    @abstractmethod
    def count(self, text: str) -> Any:
        """What the rules look at. It is the reference for the family's columns in `kernel`."""

    @abstractmethod
    def tests(self, c: Any) -> Iterator[tuple[str, Count]]:
        """Each rule, and whether it drops: in the order in which a reason is given."""

    @abstractmethod
    def detail(self, reason: str, text: str, c: Any) -> str:
        """The numbers behind a reason."""
