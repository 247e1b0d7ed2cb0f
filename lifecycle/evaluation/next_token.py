"""How probable a model finds a text: documents behind <|bos|>, cut in windows of max_seq_len, summed by document.

# B windows, T tokens, V vocabulary
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from lifecycle.evaluation.llama import Llama
from lifecycle.evaluation.scoring import target_scores

# Logits of one forward pass: 256 MB in fp32.
MAX_LOGITS = 2**26
UNSCORED = -100


class Window(NamedTuple):
    """Ids that are fed, the id that follows each of them, and how many of the first only serve as context."""

    document: int
    inputs: Sequence[int]
    targets: Sequence[int]
    context: int


def windows(document: int, ids: Sequence[int], *, max_seq_len: int, context_tokens: int) -> Iterator[Window]:
    """Cut `ids`, which begin with BOS, so that every other token is predicted exactly once.

    Each window after the first is shown the last `context_tokens` of the one before again, unscored.
    """
    scored_to = 1
    while scored_to < len(ids):
        start = max(0, scored_to - 1 - context_tokens)
        end = min(start + max_seq_len, len(ids) - 1)
        yield Window(document, ids[start:end], ids[start + 1 : end + 1], scored_to - 1 - start)
        scored_to = end + 1


def batches_of(
    model: Any, documents: Sequence[Sequence[int]], *, max_seq_len: int, context_tokens: int, batch: int
) -> list[list[Window]]:
    """The windows of these documents in batches, the longest first: what does not fit in memory fails at once."""
    cut = [
        window
        for document, ids in enumerate(documents)
        for window in windows(document, ids, max_seq_len=max_seq_len, context_tokens=context_tokens)
    ]
    cut.sort(key=lambda window: -len(window.inputs))
    rows = max(1, min(batch, MAX_LOGITS // (max_seq_len * model.config.vocab_size)))
    return [cut[start : start + rows] for start in range(0, len(cut), rows)]


@torch.inference_mode()
def log_probabilities(model: Any, batch: Sequence[Window]) -> list[float]:
    """ln p of each window's targets. NaN or inf in a token makes its window's sum so: it stays seen."""
    if isinstance(model, Llama):
        wanted = [[*[UNSCORED] * window.context, *window.targets[window.context :]] for window in batch]
        return [-float(nats.sum()) for nats, _ in model.scores([window.inputs for window in batch], wanted)]
    width = max(len(window.inputs) for window in batch)
    # Padding on the right needs no mask: attention looks back only.
    inputs = [[*window.inputs, *[0] * (width - len(window.inputs))] for window in batch]
    targets = [
        [UNSCORED] * w.context + list(w.targets[w.context :]) + [UNSCORED] * (width - len(w.targets)) for w in batch
    ]
    wanted_BT = torch.tensor(targets, device=model.device)
    nats_BT, _ = target_scores(model, wanted_BT, input_ids=torch.tensor(inputs, device=model.device))
    nats_B = nats_BT.double().sum(1)
    return [-total for total in nats_B.tolist()]
