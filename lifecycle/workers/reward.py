"""The reward model with TRL: `-m lifecycle.workers.reward JOB_FOLDER`. A pair's better answer should score higher.

# B conversations, T tokens, D width
"""

import json
import random
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from datasets import Dataset
from torch import Tensor
from transformers.modeling_outputs import SequenceClassifierOutput
from trl.trainer.reward_config import RewardConfig as TrlConfig
from trl.trainer.reward_trainer import RewardTrainer

from lifecycle.chat.examples import Compared, Comparison
from lifecycle.evaluation.calibration import calibration, length_alone
from lifecycle.evaluation.judge import RewardJudge
from lifecycle.sealing import write_atomically
from lifecycle.stages.reward import RewardConfig, RewardJob
from lifecycle.training import adapters
from lifecycle.training.post import Tuned
from lifecycle.workers import job as doorway
from lifecycle.workers import posttrain
from lifecycle.workers.job import Recorder, rank
from lifecycle.workers.pairs import probe, read_both, run_of, tuned
from lifecycle.workers.posttrain import Spoken
from lifecycle.workers.scores import rewards_of
from lifecycle.workers.trainer import OurRules

CALIBRATION = "calibration.json"
CANDIDATES = 16  # other answers, of which the most alike is the hardest to tell from the right one
METRICS = {
    "accuracy": "reward_accuracy",
    "margin": "reward_margin",
    "mean_reward": "reward_mean",
    "num_tokens": "tokens",
}
"""TRL's name -> ours."""


class Trainer(OurRules, RewardTrainer):  # type: ignore[misc]
    """TRL's trainer under our rules; its rows come rendered."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        """Rows come with ids; tokenising again costs seconds, and could come out different."""
        return dataset


def train(job: RewardJob, recorder: Recorder) -> Tuned:
    """Teach the SFT model to judge, leave a model folder in `out_dir`, and say how far its confidence goes."""
    recorder.progress(0, 1, "steps", "reading and checking rows")
    spoken, config = posttrain.load_protocol(job.sft), job.config
    compared, held = read_both(job, spoken)
    rows = [*compared.rows, *mismatched(compared.rows, config, job.max_seq_len)]
    trainer = build(job, spoken, compared._replace(rows=rows), recorder)
    trainer.train()
    parameters, difference = posttrain.save(trainer, job.sft, job.out_dir, probe(held.rows))
    heldout = {"merged_logits_difference": difference} if config.lora else {}
    if rank() == 0:
        heldout |= judged(job.out_dir, trainer.accelerator.device, compared.rows, held.rows)
    recorder.metrics(trainer.state.global_step, **{f"heldout/{name}": value for name, value in heldout.items()})
    return tuned(trainer, compared, parameters=parameters, heldout=heldout)


def build(job: RewardJob, spoken: Spoken, compared: Compared, recorder: Recorder) -> Trainer:
    """TRL's trainer around the SFT model with a new head of one output."""
    config, rows = job.config, compared.rows
    trainer = Trainer(
        model=load_judge(job.sft, config.attention, seed=config.seed),
        args=TrlConfig(
            **posttrain.trainer_arguments(config, job.scratch_dir, batch=config.batch_pairs, rows=len(rows)),
            center_rewards_coefficient=config.centre_weight or None,
        ),
        train_dataset=as_dataset(rows),
        processing_class=spoken.wrapped,
        peft_config=judging(adapters.adapter(config.lora)),
    )
    posttrain.join_ranks()
    trainer.obey(run_of(job, config, compared, recorder, names=METRICS, closing="heldout/accuracy", layout={}))
    return trainer


def mismatched(rows: Sequence[Comparison], config: RewardConfig, max_seq_len: int) -> Iterator[Comparison]:
    """Each chosen answer over some other prompt's: of CANDIDATES drawn by the seed, the one that begins most alike."""
    draw = random.Random(config.seed)
    for _ in range(config.mismatched_per_pair):
        for row in rows:
            others = [draw.choice(rows).chosen_ids for _ in range(CANDIDATES)]
            room = max_seq_len - len(row.prompt_ids)
            wrong = [ids for ids in others if ids != row.chosen_ids and len(ids) <= room]
            if wrong:
                yield row._replace(rejected_ids=max(wrong, key=lambda ids: _alike(ids, row.chosen_ids)))


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def load_judge(folder: Path, attention: str = "auto", *, seed: int) -> Any:
    """A model folder as a judge in fp32: its own head where it has one of one output, else a new one from the seed."""
    torch.manual_seed(seed)
    automatic = "sdpa" if torch.cuda.is_available() else "eager"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_labels=1,
        dtype=torch.float32,
        attn_implementation=automatic if attention == "auto" else attention,
        trust_remote_code=False,
        use_safetensors=True,
    )
    model.forward = types.MethodType(read_at_the_end, model)
    return model


def read_at_the_end(
    self: Any, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
) -> SequenceClassifierOutput:
    """A reward is read at a conversation's last token, by the mask, as `evaluation.judge` does.

    transformers looks for the last id that is not the padding: where both are one it passes over the stop token.
    """
    hidden_BTD = self.base_model(input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
    mask_BT = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    last_BD = hidden_BTD[torch.arange(len(input_ids), device=input_ids.device), mask_BT.sum(1) - 1]
    return SequenceClassifierOutput(logits=self.score(last_BD))


def judging(adapter: peft.LoraConfig | None) -> peft.LoraConfig | None:
    """The adapter of a judge: its head is new, and learned whole."""
    if adapter is not None:
        adapter.task_type, adapter.modules_to_save = "SEQ_CLS", ["score"]
    return adapter


def judged(
    folder: Path, device: torch.device, train: Sequence[Comparison], heldout: Sequence[Comparison]
) -> dict[str, float]:
    """Accuracy and calibration of the saved judge on held-out pairs, with what length alone gets right beside it."""
    judge = RewardJudge(folder, device)
    ordered = sorted(heldout, key=lambda row: row.length)
    rows = [row.prompt_ids + answer for row in ordered for answer in (row.chosen_ids, row.rejected_ids)]
    rewards = rewards_of(judge, rows)
    margins = [better - worse for better, worse in zip(rewards[::2], rewards[1::2], strict=True)]
    found = calibration(margins)
    alone = length_alone(*([(len(r.chosen_ids), len(r.rejected_ids)) for r in some] for some in (train, heldout)))
    data = {**found.as_data(), "length_alone": alone, "margin": sum(margins) / len(margins)}
    write_atomically(folder / CALIBRATION, json.dumps(data, indent=1).encode())
    return {name: float(value) for name, value in data.items() if isinstance(value, int | float)}


def as_dataset(rows: Sequence[Comparison]) -> Dataset:
    """Columns of the trainer."""
    return Dataset.from_dict(
        {
            "chosen_ids": [row.prompt_ids + row.chosen_ids for row in rows],
            "rejected_ids": [row.prompt_ids + row.rejected_ids for row in rows],
        }
    )


def in_its_own_process(job: RewardJob, recorder: Recorder) -> Tuned:
    posttrain.deepspeed_or_not(job.config)
    return train(job, recorder)


if __name__ == "__main__":
    doorway.run(RewardJob, in_its_own_process)
