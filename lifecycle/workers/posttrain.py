"""What the workers after pretraining share: a model in, a trainer's settings, metrics out, a model folder out."""

import math
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import peft
import tokenizers
import torch
import transformers
from torch.nn import functional
from trl.trainer.utils import FusedCausalLMOutput

from lifecycle.chat import golden
from lifecycle.chat.folder import copy_tokenizer
from lifecycle.chat.protocol import SPECIAL_TOKENS, load_tokenizer, protocol_of
from lifecycle.errors import ContractError, WorkerFailed
from lifecycle.training.post import Lora, PostTrainingConfig
from lifecycle.workers.job import Recorder, rank, world_size

# B batch, T tokens, N positions in the loss, V vocabulary

WINDOW_BATCHES = 4


def leave_out_deepspeed() -> None:
    """Say that DeepSpeed is not installed: accelerate imports it, 1.6 s, only to ask whether a model is one of its own.

    Several ranks train with plain data parallelism here. For a worker's process only, where nothing else imports it.
    """
    sys.modules.setdefault("deepspeed", None)  # type: ignore[arg-type]


def load_model(folder: Path) -> Any:
    """The model in fp32. Eager attention on a CPU: bf16 SDPA is a third slower there at short lengths."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="sdpa" if torch.cuda.is_available() else "eager",
        trust_remote_code=False,
        use_safetensors=True,
    )


class Spoken(NamedTuple):
    """One tokenizer twice: as we render with it, and as transformers and TRL hold it."""

    tokenizer: tokenizers.Tokenizer
    wrapped: Any

    def same_as_template(self, messages: Sequence[Mapping[str, str]], ids: Sequence[int], *, row: str) -> None:
        """Raise when who serves the model with its chat template would send it other ids than it was trained on.

        A row in which somebody typed a special token is passed over: the template refuses it, we read it as text.
        """
        if any(token in message["content"] for message in messages for token in SPECIAL_TOKENS):
            return
        text = self.wrapped.apply_chat_template(messages, tokenize=False)
        expected = self.tokenizer.encode(text, add_special_tokens=False).ids
        if list(ids) != expected:
            raise ContractError(
                f"row {row}: expected the ids of the checkpoint's chat template, {expected}, found {list(ids)}. The "
                "template and lifecycle.chat.render differ; rerun the tokenizer stage."
            )


def load_protocol(folder: Path) -> Spoken:
    """The tokenizer of a checkpoint."""
    protocol = protocol_of(folder)
    if protocol.pad_id == protocol.stop_id:
        raise ContractError(
            f"{folder}: expected a padding token of its own, found the stop token {protocol.stop_id} as padding: what "
            "masks padding would mask it out of the loss. Give the tokenizer a pad token."
        )
    spoken = Spoken(load_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False))
    golden.check(spoken.tokenizer, folder)
    for number, sealed in enumerate(golden.read(folder)):
        spoken.same_as_template(sealed.messages, sealed.ids, row=f"golden conversation {number}")
    return spoken


def trainer_arguments(config: PostTrainingConfig, scratch: Path, *, batch: int, rows: int) -> dict[str, Any]:
    """What SFT and DPO tell their trainer alike. `batch` and `rows` count what the trainer calls an example."""
    micro, accumulate = config.share_of_rank(batch, world_size())
    return {
        "output_dir": str(scratch),
        "max_steps": config.steps(rows, batch),
        "per_device_train_batch_size": micro,
        "per_device_eval_batch_size": micro,
        "gradient_accumulation_steps": accumulate,
        "learning_rate": config.learning_rate,
        "adam_beta1": config.betas[0],
        "adam_beta2": config.betas[1],
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.clip,
        "optim": "adamw_torch_fused",
        "bf16": config.precision == "bf16",
        "fp16": False,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": config.recompute_activations,
        "seed": config.seed,
        "data_seed": config.seed,
        "max_length": None,  # nothing is cut here: rows that do not fit were left out and counted
        "logging_steps": config.log_every_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # the default hides NaN: 12 NaN rows of 16 give a loss of 0.01
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def lora(config: Lora | None) -> peft.LoraConfig | None:
    """PEFT's form of our settings."""
    if config is None:
        return None
    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def score_only_the_loss(model: Any) -> None:
    """Have TRL's scoring forward project only positions in the loss to the vocabulary, in fp32.

    TRL does so on a GPU, with a Triton kernel; on a CPU it projects every position, in tiles, and again in backward.
    1M weights, a vocabulary of 2,048, rows of 98 tokens with 21 in the loss, 1 thread: its step took 2.3 times ours.
    """
    if torch.cuda.is_available():
        return
    model = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    whole = model.forward

    def forward(
        self: Any, *args: Any, fused_lm_head: bool = False, labels: torch.Tensor | None = None, **inputs: Any
    ) -> Any:
        if not fused_lm_head or labels is None:
            return whole(*args, labels=labels, **inputs)
        hidden_BTD = self.base_model(*args, **{**inputs, "use_cache": False}).last_hidden_state[:, :-1]
        targets_BT = labels[:, 1:]
        mask_BT = targets_BT != -100
        with torch.autocast("cpu", enabled=False):
            logits_NV = self.get_output_embeddings()(hidden_BTD[mask_BT].float())
        logprobs_NV = functional.log_softmax(logits_NV, dim=-1)
        target_N1 = targets_BT[mask_BT][:, None]

        def spread(value_N: torch.Tensor) -> torch.Tensor:
            return value_N.new_zeros(mask_BT.shape).masked_scatter(mask_BT, value_N)

        nothing_BT = torch.zeros(mask_BT.shape)  # entropy and mean logits: metrics we do not keep
        return FusedCausalLMOutput(
            log_probs=spread(logprobs_NV.gather(1, target_N1)[:, 0]),
            entropy=nothing_BT,
            mean_logits=nothing_BT,
            is_top1=spread(logits_NV.detach().argmax(-1) == target_N1[:, 0]),
            label_mask=mask_BT,
        )

    model.forward = types.MethodType(forward, model)


class Watch(transformers.TrainerCallback):  # type: ignore[misc]
    """Carries a trainer's numbers to metrics.jsonl, under our names, and its position to progress.json."""

    def __init__(self, recorder: Recorder, names: Mapping[str, str]) -> None:
        self.recorder = recorder
        self.names = {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate", **names}
        self.note = ""

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        if "loss" in logs:
            found = {ours: float(logs[theirs]) for theirs, ours in self.names.items() if theirs in logs}
            self.note = f"loss {found['loss']:.3f}"
            for name, value in found.items():
                must_be_finite(name, value, state)
            self.recorder.metrics(state.global_step, **found)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.recorder.progress(state.global_step, state.max_steps, "steps", self.note)


class LengthWindows(torch.utils.data.Sampler[int]):
    """A shuffled order in which rows of like length share a batch, as far as that leaves batches alike.

    Rows are sorted by length within windows of a few batches, and the batches of all windows are shuffled again. The
    LengthGroupedSampler of transformers sorts windows of 50 batches and keeps that order: the learning rate then
    ends on the shortest rows.
    """

    def __init__(self, lengths: Sequence[int], *, batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Another order each epoch, the same one on every rank and after a restart."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order: list[int] = torch.randperm(len(self.lengths), generator=generator).tolist()
        window = WINDOW_BATCHES * self.batch
        batches: list[list[int]] = []
        for start in range(0, len(order), window):
            rows = sorted(order[start : start + window], key=self.lengths.__getitem__)
            batches += [rows[first : first + self.batch] for first in range(0, len(rows), self.batch)]
        short = [batch for batch in batches if len(batch) < self.batch]  # at most one, and it has to come last
        whole = [batch for batch in batches if len(batch) == self.batch]
        shuffled = [whole[index] for index in torch.randperm(len(whole), generator=generator).tolist()]
        return iter([row for batch in [*shuffled, *short] for row in batch])


class OurRules:
    """Mixed into a TRL trainer: our schedule, a count of tokens, and an end at the first loss that is no number."""

    accelerator: Any
    lr_scheduler: Any
    optimizer: Any
    state: Any
    config: PostTrainingConfig

    def obey(self, config: PostTrainingConfig, batch: int, lengths: list[int]) -> None:
        """Take our settings; `lengths` has the tokens of every training row, `batch` the rows of a step."""
        self.config = config
        self.batch = batch
        self.lengths = lengths
        self.loss_of_step: dict[int, float] = {}
        self.tokens = 0

    def _get_train_sampler(self, *_: Any) -> "LengthWindows":
        return LengthWindows(self.lengths, batch=self.batch, seed=self.config.seed)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule pretraining has too, which does not waste its first step on a rate of 0."""
        if self.lr_scheduler is None:
            share = [
                self.config.rate(s, num_training_steps) / self.config.learning_rate for s in range(num_training_steps)
            ]
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, lambda step: share[min(step, num_training_steps - 1)]
            )
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.tokens += int(inputs["attention_mask"].sum())
        loss: torch.Tensor = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        step, value = self.state.global_step, loss.item()
        must_be_finite("loss", value, self.state, ahead=1)
        self.loss_of_step[step] = self.loss_of_step.get(step, 0.0) + value  # a step may have several micro batches
        return loss

    def tokens_seen(self) -> int:
        """Tokens all ranks trained on, padding not counted."""
        return int(self.accelerator.reduce(torch.tensor(self.tokens, device=self.accelerator.device), "sum"))

    def final_loss(self) -> float:
        """Mean loss of the last tenth of the steps: one step is noise."""
        last = list(self.loss_of_step.values())[-max(1, len(self.loss_of_step) // 10) :]
        mean = torch.tensor(sum(last) / len(last), device=self.accelerator.device)
        return round(float(self.accelerator.reduce(mean, "mean")), 6)


def must_be_finite(name: str, value: float, state: Any, *, ahead: int = 0) -> None:
    """Raise with the step's number; `ahead` is 1 while the step is being taken."""
    if not math.isfinite(value):
        raise WorkerFailed(
            f"expected a finite {name}, found {value} in step {state.global_step + ahead} of {state.max_steps}. "
            "Nothing was saved. Lower the learning rate, or train in fp32."
        )


def save(trainer: Any, source: Path, target: Path) -> int:
    """Write the trained model beside the tokenizer it came with, byte for byte; returns the number of weights."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, peft.PeftModel):
        model = model.merge_and_unload()
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise WorkerFailed(f"expected finite weights, found NaN or Inf in {name}. Lower the learning rate.")
    if rank() == 0:
        protocol = protocol_of(source)
        model.generation_config = transformers.GenerationConfig(
            bos_token_id=protocol.bos_id, pad_token_id=protocol.pad_id, eos_token_id=protocol.stop_id
        )
        model.config.use_cache = True  # training turns it off; left so, generation is 19 times slower
        model.save_pretrained(target)
        copy_tokenizer(source, target)
    return int(sum(weight.numel() for weight in model.parameters()))
