"""Everybody who trains on the same demonstrations: our SFT, TRL's trainer, and a bare PEFT loop."""

import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

RATE = 1e-3


class Bench:
    """One base model and its demonstrations, and everybody who trains on them."""

    def __init__(self, base: Path, demonstrations: Path, folder: Path, *, max_seq_len: int, batch: int, steps: int):
        from lifecycle.training.order import LengthWindows
        from lifecycle.workers import posttrain

        self.base, self.demonstrations, self.folder = base, demonstrations, folder
        self.max_seq_len, self.batch, self.steps, self.number = max_seq_len, batch, steps, 0
        self.spoken = posttrain.load_protocol(base)
        self.rows = self._read().rows
        order = LengthWindows([len(row.ids) for row in self.rows], batch=batch, seed=0)
        self.seen = [self.rows[row] for rows in islice(order.batches(), steps) for row in rows]
        """The rows of our steps, in their order."""

    def _read(self) -> Any:
        from lifecycle.workers import sft

        return sft.read(self.demonstrations / "train.jsonl", self.spoken, self._job())

    def _job(self, **settings: Any) -> Any:
        from lifecycle.stages.sft import SftConfig, SftJob

        self.number += 1
        out = self.folder / str(self.number)
        (out / "log").mkdir(parents=True)
        constant = {"warmup_share": 0.0, "final_learning_rate_share": 1.0, "learning_rate": RATE}
        return SftJob(
            out_dir=out,
            scratch_dir=out / "scratch",
            config=SftConfig(**{"batch_rows": self.batch, **constant, **settings}),
            base=self.base,
            train_file=self.demonstrations / "train.jsonl",
            dev_file=self.demonstrations / "dev.jsonl",
            max_seq_len=self.max_seq_len,
        )

    def ours(self, **settings: Any) -> tuple[list[float], float, float]:
        """The losses of our steps, CPU-seconds, supervised tokens."""
        from lifecycle.chat.examples import Demonstrated
        from lifecycle.workers import sft
        from lifecycle.workers.job import Recorder

        job = self._job(epochs=self.steps * self.batch / len(self.rows), **settings)
        trainer = sft.build(job, self.spoken, Demonstrated(self.rows, {}), [], Recorder(job.out_dir / "log"))
        seconds = cpu_seconds(trainer.train)
        return trainer.course.losses, seconds, supervised(self.seen)

    def trl(self, *, in_our_order: bool = False, **settings: Any) -> tuple[list[float], float, float]:
        """The same of TRL's trainer, at its defaults but for `settings`; its rows are those of our steps."""
        import torch
        import transformers
        from torch.utils.data import SequentialSampler
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        from lifecycle.workers import sft

        class InOurOrder(SFTTrainer):  # type: ignore[misc]
            def _get_train_sampler(self, *_: Any) -> Any:
                return SequentialSampler(self.train_dataset)

        packing = settings.get("packing", False)
        trainer = (InOurOrder if in_our_order else SFTTrainer)(
            model=transformers.AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32),
            args=SFTConfig(
                output_dir=str(self.folder / "trl"),
                per_device_train_batch_size=self.batch,
                num_train_epochs=1,
                learning_rate=RATE,
                lr_scheduler_type="constant",
                max_length=self.max_seq_len if packing else None,
                dataset_kwargs=None if packing else {"skip_prepare_dataset": True},
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
                **settings,
            ),
            train_dataset=sft.as_dataset(self.seen),
            processing_class=self.spoken.wrapped,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        seconds = cpu_seconds(trainer.train)
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
        return losses, seconds, supervised(self.seen)

    def bare_peft(self, *, bf16: bool = True) -> tuple[list[float], float, float]:
        """A loop of PEFT's model, torch's AdamW and the model's own loss, as its documentation shows one."""
        import peft
        import torch
        import transformers

        from lifecycle.training import adapters
        from lifecycle.training.conversations import padded

        transformers.set_seed(0)
        model = transformers.AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)
        model = peft.get_peft_model(model, adapters.adapter(lora()))
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0, fused=True)
        losses: list[float] = []

        def train() -> None:
            for start in range(0, len(self.seen), self.batch):
                rows = self.seen[start : start + self.batch]
                inputs = padded(rows, pad_id=0)
                lengths = torch.tensor([len(row.ids) for row in rows])
                mask = torch.arange(inputs["input_ids"].shape[1]) < lengths[:, None]
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                    loss = model(**inputs, attention_mask=mask.long()).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.item())

        return losses, cpu_seconds(train), supervised(self.seen)


def lora() -> Any:
    from lifecycle.training.post import Lora

    return Lora(rank=8, alpha=16.0)


def supervised(rows: Sequence[Any]) -> float:
    return float(sum(sum(row.assistant_mask) for row in rows))


def cpu_seconds(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before
