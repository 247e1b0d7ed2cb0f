"""Comparisons as ids, for every worker that learns from them."""

from pathlib import Path

from lifecycle.chat import examples
from lifecycle.chat.examples import Compared, Comparison, Demonstration
from lifecycle.data.jsonl import load_rows
from lifecycle.workers.posttrain import Spoken


def read_pairs(file: Path, spoken: Spoken, *, max_seq_len: int, max_dropped_share: float) -> Compared:
    """The comparisons of a file that fit, each with the ids the model's own chat template gives."""
    read = examples.comparisons(spoken.renderer, load_rows(file), max_seq_len=max_seq_len, also=spoken.same_as_template)
    examples.most_rows_fit(read.dropped, len(read.rows), max_dropped_share=max_dropped_share, max_seq_len=max_seq_len)
    return read


def chosen(pair: Comparison) -> Demonstration:
    """The conversation with the better answer."""
    mask = [0] * len(pair.prompt_ids) + [1] * len(pair.chosen_ids)
    return Demonstration("", [*pair.prompt_ids, *pair.chosen_ids], mask)
