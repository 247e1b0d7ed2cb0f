"""What the workers after pretraining share: a model in, a trainer's settings, a model folder out."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import peft
import torch
import torch.distributed as dist
import transformers

from lifecycle.chat import golden
from lifecycle.chat.folder import copy_tokenizer
from lifecycle.chat.protocol import protocol_of
from lifecycle.chat.render import Renderer, load_renderer
from lifecycle.chat.structure import Messages, for_template
from lifecycle.errors import ContractError, WorkerFailed
from lifecycle.model.zero import ZeroConfig
from lifecycle.training import adapters
from lifecycle.training.post import PostTrainingConfig
from lifecycle.workers.job import rank, world_size


def deepspeed_or_not(config: PostTrainingConfig) -> None:
    """Import DeepSpeed our way where ranks share out their state; else say that it is not installed.

    accelerate imports it, 1.6 s, only to ask whether a model is one of its own. For a worker's process only, where
    nothing else imports it.
    """
    if config.zero:
        importlib.import_module("lifecycle.training.distributed")
    else:
        sys.modules.setdefault("deepspeed", None)  # type: ignore[arg-type]


def join_ranks() -> None:
    """Be the only rank where nobody started others: checkpoints ask all ranks. The trainer joins several."""
    if "RANK" not in os.environ and not dist.is_initialized():
        store = dist.HashStore()  # type: ignore[attr-defined]  # torch does not export its own name
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)


def load_model(folder: Path, attention: str = "auto", **more: Any) -> Any:
    """The model in fp32. Eager attention on a CPU: bf16 SDPA is a third slower there at short lengths."""
    automatic = "sdpa" if torch.cuda.is_available() else "eager"
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation=automatic if attention == "auto" else attention,
        trust_remote_code=False,
        use_safetensors=True,
        **more,
    )
    adapters.keep_layout(model)
    if model.config.pad_token_id in stop_ids(model):
        # transformers gives the padding token's embedding no gradient; this one is also the end of every turn.
        model.get_input_embeddings().padding_idx = None
    return model


def stop_ids(model: Any) -> list[int]:
    """The ids that end an answer, as the model's own configuration has them."""
    stop = model.config.eos_token_id
    return stop if isinstance(stop, list) else [stop]


class Spoken(NamedTuple):
    """One tokenizer twice: as we render with it, and as transformers and TRL hold it."""

    renderer: Renderer
    wrapped: Any

    def same_as_template(
        self, messages: Messages, ids: Sequence[int], *, row: str, generation_prompt: bool = False
    ) -> None:
        """Raise when who serves the model with its chat template would send it other ids than it was trained on.

        A row in which somebody typed a special token is passed over: the template refuses it, we read it as text.
        """
        if self.renderer.typed(messages, generation_prompt=generation_prompt):
            return
        given, tools = for_template(messages)
        text = self.wrapped.apply_chat_template(
            given, tools=tools, tokenize=False, add_generation_prompt=generation_prompt
        )
        expected = self.renderer.tokenizer.encode(text, add_special_tokens=False).ids
        if list(ids) != expected:
            raise ContractError(
                f"row {row}: expected the ids of the checkpoint's chat template, {expected}, found {list(ids)}. The "
                "template and lifecycle.chat.render differ; rerun the tokenizer stage."
            )


def load_protocol(folder: Path) -> Spoken:
    """The tokenizer of a checkpoint."""
    renderer = load_renderer(folder)
    spoken = Spoken(renderer, transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False))
    golden.check(renderer, folder)
    for number, sealed in enumerate(golden.read(folder)):
        row, prompt = f"golden conversation {number}", sealed.messages[:-1]
        spoken.same_as_template(sealed.messages, sealed.ids, row=row)
        asked = renderer.render(prompt, generation_prompt=True).ids
        spoken.same_as_template(prompt, asked, row=f"{row}, before its answer", generation_prompt=True)
    return spoken


def trainer_arguments(config: PostTrainingConfig, scratch: Path, *, batch: int, rows: int) -> dict[str, Any]:
    """What SFT and DPO tell their trainer alike. `batch` and `rows` count what the trainer calls an example."""
    micro, accumulate = config.share_of_rank(batch, world_size())
    return {
        "output_dir": str(scratch),
        "max_steps": config.steps(rows, batch),
        "per_device_train_batch_size": micro,
        "per_device_eval_batch_size": micro,
        "deepspeed": sharded(config, batch, micro) if config.zero else None,
        "gradient_accumulation_steps": accumulate,
        "learning_rate": config.learning_rate,
        "adam_beta1": config.betas[0],
        "adam_beta2": config.betas[1],
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.clip,
        "optim": "adamw_torch_fused",
        "bf16": config.precision == "bf16" and not config.zero,  # DeepSpeed has its own autocast
        "fp16": False,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": config.recompute_activations,
        # Every weight that learns is used in every step, and no buffer changes: looking for others, and sending buffers
        # around, took 3 ms of a step of 80.
        "ddp_find_unused_parameters": False,
        "ddp_broadcast_buffers": False,
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


def sharded(config: PostTrainingConfig, batch: int, micro: int) -> dict[str, Any]:
    """DeepSpeed's settings, with the numbers of the trainer's."""
    zero = ZeroConfig(stage=config.zero)
    return zero.deepspeed(
        batch_rows=batch,
        micro_batch_rows=micro,
        ranks=world_size(),
        precision=config.precision,
        clip=config.clip,
    )


def save(trainer: Any, source: Path, target: Path, probe_BT: torch.Tensor) -> tuple[int, float]:
    """Write the trained model beside the tokenizer it came with, byte for byte.

    The number of its weights comes back, and by how much the logits of `probe_BT` changed when an adapter was merged.
    """
    # Without the wrapper that computes in bf16: a merge is proven in fp32.
    return save_model(
        trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False), source, target, probe_BT
    )


def save_model(model: Any, source: Path, target: Path, probe_BT: torch.Tensor) -> tuple[int, float]:
    """The same of a model that nobody wrapped."""
    difference = 0.0
    if isinstance(model, peft.PeftModel):
        model, difference = adapters.merged(model, lambda: load_model(source), probe_BT)
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
    return int(sum(weight.numel() for weight in model.parameters())), difference
