"""Bits per byte of validation documents, by source. The texts are the corpus's own; no file of items is needed."""

import math
from collections.abc import Sequence

from lifecycle.evaluation.items import Item
from lifecycle.evaluation.kinds.suite import Measure, add

KIND = "next_token"
BITS = "bits_per_byte"


def record(*, source: str, id: str, prompt_digest: str, tokens: int, bytes: int, log_probability: float | None) -> Item:
    """The record of one document; without a log-probability it is UNMEASURED."""
    known = log_probability is not None
    return Item(
        kind=KIND,
        suite=BITS,
        id=id,
        slice=source,
        mode="likelihood",
        prompt_digest=prompt_digest,
        score=-log_probability / math.log(2) / bytes if log_probability is not None else None,
        log_probability=log_probability,
        tokens=tokens,
        bytes=bytes,
        unmeasured=None if known else "logits_not_finite",
    )


def measures(items: Sequence[Item]) -> dict[str, Measure]:
    """All bits over all bytes."""
    measure = Measure("rate", bounds=None, higher_is_better=False)
    for item in items:
        bits = None if item.log_probability is None else -item.log_probability / math.log(2)
        add(measure, item, bits, weight=item.bytes)
    return {"": measure}
