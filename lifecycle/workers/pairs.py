"""Comparisons as ids, and what the workers that learn from pairs of them tell their trainer alike."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lifecycle.chat import examples
from lifecycle.chat.examples import Compared, Comparison
from lifecycle.data.jsonl import load_rows
from lifecycle.sealing import canonical
from lifecycle.training.compared import ComparedJob, PairsConfig
from lifecycle.training.pairs import Asked
from lifecycle.training.post import Tuned
from lifecycle.workers.job import Recorder
from lifecycle.workers.posttrain import Spoken
from lifecycle.workers.trainer import OurRules, Run

PROBED = 4  # held-out conversations on which a merged adapter is compared


def read_pairs(file: Path, spoken: Spoken, *, max_seq_len: int, max_dropped_share: float) -> Compared:
    """The comparisons of a file that fit, each with the ids the model's own chat template gives."""
    read = examples.comparisons(spoken.renderer, load_rows(file), max_seq_len=max_seq_len, also=spoken.same_as_template)
    examples.most_rows_fit(read.dropped, len(read.rows), max_dropped_share=max_dropped_share, max_seq_len=max_seq_len)
    return read


def read_both(job: ComparedJob, spoken: Spoken) -> tuple[Compared, Compared]:
    """The comparisons to train on, and those held out."""
    limits: dict[str, Any] = {"max_seq_len": job.max_seq_len, "max_dropped_share": job.config.max_dropped_share}
    return read_pairs(job.train_file, spoken, **limits), read_pairs(job.heldout_file, spoken, **limits)


def both_answers(rows: Sequence[Comparison]) -> list[Asked]:
    """Each prompt with its chosen and its rejected answer."""
    return [Asked(row.prompt_ids, (row.chosen_ids, row.rejected_ids)) for row in rows]


def with_others(rows: Sequence[Comparison], max_seq_len: int) -> list[Asked]:
    """Each prompt with the chosen answer of another row, the next one that fits behind it."""
    found = []
    for number, row in enumerate(rows):
        others = (other for other in chain(rows[number + 1 :], rows[:number]) if other.prompt_ids != row.prompt_ids)
        fitting = (one.chosen_ids for one in others if len(row.prompt_ids) + len(one.chosen_ids) <= max_seq_len)
        answer = next(fitting, row.chosen_ids)
        found.append(Asked(row.prompt_ids, (answer,)))
    return found


def probe(rows: Sequence[Comparison]) -> Tensor:
    """Some conversations with their better answers, on which a merged adapter is compared."""
    shown = [torch.tensor(row.prompt_ids + row.chosen_ids) for row in rows[:PROBED]]
    return pad_sequence(shown, batch_first=True)


def run_of(
    job: ComparedJob,
    config: PairsConfig,
    compared: Compared,
    recorder: Recorder,
    *,
    names: Mapping[str, str],
    closing: str,
    layout: Mapping[str, Any],
) -> Run:
    """A training on these pairs."""
    rows = compared.rows
    return Run(
        config=config,
        batch=config.batch_pairs,
        lengths=[row.length for row in rows],
        tokens=[2 * len(row.prompt_ids) + len(row.chosen_ids) + len(row.rejected_ids) for row in rows],
        recorder=recorder,
        names=names,
        opening={"supervised_share": compared.supervised_share},
        closing=closing,
        checkpoints=job.scratch_dir / "checkpoints",
        made_by={**canonical(config), **job.inputs},
        layout=layout,
    )


def tuned(trainer: OurRules, compared: Compared, **more: Any) -> Tuned:
    """What is reported of a training on these pairs."""
    return Tuned(
        steps=trainer.state.global_step,
        tokens_seen=trainer.course.tokens,
        final_loss=trainer.course.final_loss(),
        supervised_share=round(compared.supervised_share, 6),
        dropped=compared.dropped,
        **more,
    )
