"""A recipe's pretraining cut to seconds on a CPU: its settings, on a small network of the same family."""

from pathlib import Path

import numpy as np

from lifecycle.data.layout import Concatenated, Segments
from lifecycle.data.packing import Cuts, Index, RowWriter
from lifecycle.launch import run_worker
from lifecycle.model.families import AnyModel
from lifecycle.model.foreign import shape_of
from lifecycle.recipes import LifecycleConfig
from lifecycle.stages.pretrain import WORKER, PretrainConfig, PretrainJob, PretrainResult, Steps

T, V, STEPS = 32, 64, 6
SPECIAL = {"bos_id": 0, "pad_id": 1, "stop_id": 2}


def twin_of(recipe: LifecycleConfig, model: AnyModel, *, ranks: int) -> PretrainConfig:
    """Everything as in the recipe but the size of the network and of the batch, and the length of the run."""
    small = {"model": model, "batch_rows": 4 * ranks, "micro_batch_rows": 2, "ranks": ranks, "threads": 1}
    short = {"horizon": Steps(steps=STEPS), "warmup_steps": 2, "save_every_steps": 3, "validate_every_steps": 3}
    return recipe.pretrain.model_copy(update={**small, **short, "log_every_steps": 1, "learning_rate": 1e-2})


def train(config: PretrainConfig, folder: Path, base: Path | None = None) -> PretrainResult:
    """Train on rows in which each id is the one before plus one: fresh weights, or those of a base."""
    shards, written = folder / "shards", []
    shards.mkdir()
    for name, rows in (("train.bin", 16), ("validation.bin", 4)):
        ids = ((np.arange(rows)[:, None] * 7 + np.arange(T)) % V).astype(np.uint16)
        writer = RowWriter(shards, iter([name]), Concatenated(T, "uint16"), rows_per_shard=rows)
        writer.write(Segments.whole(ids.ravel(), np.full(rows, T), np.arange(rows)))
        written.append(writer.close())
    index = Index(
        max_seq_len=T,
        dtype="uint16",
        packing="concatenate",
        pad_id=SPECIAL["pad_id"],
        shards=written[0],
        validation=written[1][0],
        tokens_by_source={},
        padding_tokens=0,
        tail_tokens=0,
        validation_tail_tokens=0,
        cuts=Cuts.model_validate(dict.fromkeys(Cuts.model_fields, 0)),
    )
    (shards / "index.json").write_text(index.model_dump_json())
    job = PretrainJob(
        out_dir=folder,
        scratch_dir=folder / "scratch",
        config=config,
        shards_dir=shards,
        shards_digest="d" * 64,
        max_seq_len=T,
        vocab_size=V,
        **SPECIAL,
        **({} if base is None else {"base": base, "base_digest": "b" * 64, "base_model": shape_of(base)}),
    )
    return run_worker(WORKER, job, PretrainResult, ranks=config.ranks, threads=1)
