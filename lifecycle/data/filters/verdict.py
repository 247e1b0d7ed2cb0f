"""What a filter says of a document it drops."""

from typing import NamedTuple


class Drop(NamedTuple):
    """Why a document is dropped: the rule's name, and the numbers a person needs to agree or not."""

    reason: str
    detail: str = ""
