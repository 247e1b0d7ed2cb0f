"""How many pairs a CPU-second are learned, against TRL's own DPOTrainer?

    python -m benchmarks.preference --store .lifecycle --json preference.json

A store's newest SFT checkpoint learns its newest comparisons (`make run` leaves both). First both sides take the same
steps on the same pairs in fp32: a row counts only where their losses are equal. Then each runs as it is set up by
default, in turn, several rounds. The reference counts: ours is computed before the first step, for every pair of the
training and not only those of these steps; TRL's in each step, or before the first where that is asked for. One thread:
CPU-seconds then mean work, not waiting.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.sft import Row, Side, compare, equal
from benchmarks.sft_peers import cpu_seconds
from benchmarks.store import newest
from lifecycle.launchers.environment import worker_environment

MARK = "LIFECYCLE_BENCHMARK"
ROUNDS = 5
STEPS, BATCH, RATE, BETA = 16, 16, 1e-4, 0.1
TOLERANCE = 2e-4  # of a step's loss, in nats, in fp32


class Bench:
    """One SFT checkpoint and its comparisons, and everybody who trains on them."""

    def __init__(self, store: Path, folder: Path) -> None:
        from lifecycle.sealing import read_manifest
        from lifecycle.training.order import LengthWindows
        from lifecycle.workers import posttrain
        from lifecycle.workers.pairs import read_both

        self.sft, self.comparisons, self.folder, self.number = (
            newest(store, "sft"),
            newest(store, "comparisons"),
            folder,
            0,
        )
        self.max_seq_len = int(read_manifest(self.sft).facts["max_seq_len"])
        self.spoken = posttrain.load_protocol(self.sft)
        self.rows = read_both(self._job(), self.spoken)[0].rows[: STEPS * BATCH]
        order = LengthWindows([row.length for row in self.rows], batch=BATCH, seed=0)
        self.seen = [self.rows[row] for rows in islice(order.batches(), STEPS) for row in rows]
        """The pairs of our steps, in their order."""

    def _job(self, **settings: Any) -> Any:
        from lifecycle.stages.preference import PreferenceConfig, PreferenceJob

        self.number += 1
        out = self.folder / str(self.number)
        (out / "log").mkdir(parents=True)
        constant = {"warmup_share": 0.0, "final_learning_rate_share": 1.0, "learning_rate": RATE, "beta": BETA}
        return PreferenceJob(
            out_dir=out,
            scratch_dir=out / "scratch",
            config=PreferenceConfig(**{"batch_pairs": BATCH, "save_every_steps": 10**6, **constant, **settings}),
            sft=self.sft,
            train_file=self.comparisons / "train.jsonl",
            heldout_file=self.comparisons / "heldout.jsonl",
            max_seq_len=self.max_seq_len,
        )

    def ours(self, **settings: Any) -> tuple[list[float], float, float]:
        """The losses of our steps, CPU-seconds with those of the reference, and pairs."""
        from lifecycle.chat.examples import Compared
        from lifecycle.workers import preference
        from lifecycle.workers.job import Recorder

        job = self._job(epochs=1.0, **settings)
        trainer = preference.build(job, self.spoken, Compared(self.rows, {}), [], Recorder(job.out_dir / "log"))
        seconds = cpu_seconds(trainer.refer) + cpu_seconds(trainer.train)
        return trainer.course.losses, seconds, float(len(self.seen))

    def trl(self, *, in_our_order: bool = False, **settings: Any) -> tuple[list[float], float, float]:
        """The same of TRL's trainer, at its defaults but for `settings`; its rows are those of our steps."""
        import torch
        import transformers
        from torch.utils.data import SequentialSampler
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DPOTrainer

        from lifecycle.workers import preference

        class Rendered(DPOTrainer):  # type: ignore[misc]
            """Rows come with ids, as ours do: tokenising them again is not what is measured."""

            def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
                return dataset

            def _get_train_sampler(self, *given: Any) -> Any:
                return SequentialSampler(self.train_dataset) if in_our_order else super()._get_train_sampler(*given)

        made: list[Any] = []

        def make() -> None:
            made.append(
                Rendered(
                    model=transformers.AutoModelForCausalLM.from_pretrained(self.sft, dtype=torch.float32),
                    args=DPOConfig(
                        output_dir=str(self.folder / "trl"),
                        per_device_train_batch_size=BATCH,
                        num_train_epochs=1,
                        learning_rate=RATE,
                        lr_scheduler_type="constant",
                        beta=BETA,
                        max_length=None,
                        logging_steps=1,
                        save_strategy="no",
                        report_to="none",
                        use_cpu=True,
                        disable_tqdm=True,
                        **settings,
                    ),
                    train_dataset=preference.as_dataset(self.seen),
                    processing_class=self.spoken.wrapped,
                )
            )

        making = cpu_seconds(make)
        trainer = made[0]
        trainer.remove_callback(transformers.PrinterCallback)
        seconds = cpu_seconds(trainer.train) + (making if settings.get("precompute_ref_log_probs") else 0.0)
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
        return losses, seconds, float(len(self.seen))


def rows_of(bench: Bench, rounds: int) -> list[Row]:
    """TRL as it comes, without activation checkpointing, and with its reference computed before; our other layout."""
    fp32 = bench.ours(precision="fp32")[0]
    theirs = bench.trl(in_our_order=True, bf16=False, gradient_checkpointing=False)[0]
    difference = equal("TRL", fp32, theirs, TOLERANCE)
    padded = equal("layout padded", fp32, bench.ours(precision="fp32", layout="padded")[0], TOLERANCE)

    def ours(**settings: Any) -> Side:
        return lambda: bench.ours(**settings)[1:]

    def peer(**settings: Any) -> Side:
        return lambda: bench.trl(**settings)[1:]

    lean: dict[str, Any] = {"gradient_checkpointing": False}
    before = {**lean, "precompute_ref_log_probs": True}
    one: dict[str, Any] = {"rounds": rounds, "difference": difference, "unit": "pairs per CPU-second"}
    return [
        compare("TRL's DPOTrainer, its defaults", ours(), peer(), bar=1.3, **one),
        compare("TRL, no activation checkpointing", ours(), peer(**lean), bar=1.3, **one),
        compare("TRL, the same, reference before the first step", ours(), peer(**before), bar=1.3, **one),
        compare("ours, layout padded", ours(), ours(layout="padded"), bar=0.0, **{**one, "difference": padded}),
    ]


def table(rows: Sequence[Row], file: Path | None) -> int:
    """Exit code 1 when a bar does not hold."""
    if file:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0 if all(row.ratio >= row.bar for row in rows) else 1


def main() -> int:
    """Print a row a peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(os.environ.get("LIFECYCLE_STORE", ".lifecycle")))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if MARK not in os.environ:  # glibc reads its settings when a process starts; both sides gain by them
        environment = {**worker_environment(1), MARK: "1"}
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.preference", *sys.argv[1:]], environment)
    print("| peer | ours | peer | ratio | bar | largest difference of a loss, fp32 |\n|---|---:|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory() as folder:
        return table(rows_of(Bench(options.store, Path(folder)), options.rounds), options.json)


if __name__ == "__main__":
    sys.exit(main())
