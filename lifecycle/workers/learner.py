"""Moves policy and critic by experience: the objective of the method, a minibatch a step, on one rank or several.

# B answers, T tokens of an answer, R rows of text
"""

import importlib
import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lifecycle.data.loader import Loader
from lifecycle.data.shard_reader import ShardReader
from lifecycle.errors import WorkerFailed
from lifecycle.model.zero import ZeroConfig
from lifecycle.stages.online import OnlineJob
from lifecycle.training import ppo
from lifecycle.training.course import PlainEngine
from lifecycle.workers import posttrain
from lifecycle.workers.experience import Experience
from lifecycle.workers.job import rank, world_size
from lifecycle.workers.policy import ActorCritic
from lifecycle.workers.rollout import Batch, device

SAME = 1e-4
"""Nats between what a token had when it was drawn and what the forward that learns gives it: fp32 on both sides."""
MEASURED = ("loss", "policy_loss", "value_loss", "entropy", "clipped_share", "text_loss")
OVER: dict[str, ppo.Over] = {"ppo": "tokens", "rloo": "sums", "grpo": "answers"}


class Learner:
    """The networks, their optimizer, and how both are spread over ranks."""

    def __init__(self, job: OnlineJob, nets: ActorCritic) -> None:
        config = job.config
        self.config, self.nets = config, nets
        self.micro, self.each = config.share_of_rank(config.minibatch_answers, world_size())
        self.shares = [1.0, config.value_learning_rate / config.learning_rate]
        groups = [[w for w in net.parameters() if w.requires_grad] for net in (nets.policy, nets.critic) if net]
        nets.to(device())
        if world_size() == 1:
            posttrain.join_ranks()
            self.engine: Any = PlainEngine(nets, self._optimizer(groups))
        else:
            distributed = importlib.import_module("lifecycle.training.distributed")
            distributed.start_process_group()
            settings = ZeroConfig(stage=config.zero).deepspeed(
                batch_rows=config.minibatch_answers,
                micro_batch_rows=self.micro,
                ranks=world_size(),
                precision="fp32",
                clip=config.clip,
            )
            self.engine = distributed.start_engine(nets, self._optimizer(groups), settings)
        self.text: Loader | None = None
        if job.shards is not None:
            order = {"batch_rows": config.pretraining_rows, "seed": config.seed}
            self.text = Loader(ShardReader(job.shards), **order, rank=rank(), ranks=world_size())

    def _optimizer(self, groups: list[list[Tensor]]) -> torch.optim.Optimizer:
        config = self.config
        return torch.optim.AdamW(
            [{"params": group} for group in groups],
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def learn(self, experience: Experience, *, step: int, rate: float) -> dict[str, float]:
        """Passes over the answers in minibatches; means of what was measured on the way."""
        draws = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        found: list[dict[str, float]] = []
        for _ in range(self.config.passes):
            order = torch.randperm(len(experience.old), generator=draws).tolist()
            for start in range(0, len(order), self.config.minibatch_answers):
                rows = order[start : start + self.config.minibatch_answers]
                # The order of text rows is a function of the number of the update: a resumed run reads the same.
                number = step * self.config.updates_per_step + len(found)
                found.append(self.update(experience, rows, number=number, rate=rate, same=not found))
        if not all(math.isfinite(one["loss"]) for one in found):
            raise WorkerFailed(f"expected finite losses, found NaN or Inf in step {step}. Lower the learning rate.")
        return {name: sum(one[name] for one in found) / len(found) for name in found[0]}

    def update(
        self, experience: Experience, rows: list[int], *, number: int, rate: float, same: bool
    ) -> dict[str, float]:
        """One optimizer step on a minibatch, of which this rank takes a share in micro batches."""
        for group, share in zip(self.engine.optimizer.param_groups, self.shares, strict=False):
            group["lr"] = rate * share
        mask_BT = experience.batch.mask[rows]
        weight_BT, even_BT = ppo.token_weights(mask_BT, OVER[self.config.method]), ppo.token_weights(mask_BT, "tokens")
        mine = list(range(len(rows)))[rank() :: world_size()]
        measured = torch.zeros(len(MEASURED), dtype=torch.float64)
        text_RT = None if self.text is None else torch.from_numpy(self.text.rows(number)).to(device())
        for start in range(0, len(mine), self.micro):
            places = mine[start : start + self.micro]
            part = experience.of([rows[place] for place in places])
            loss, seen = self.loss(part, weight_BT[places], even_BT[places], text_RT, same=same)
            self._backward(loss)
            measured += torch.tensor([float(value) for value in seen], dtype=torch.float64)
            text_RT = None
        norm = self._norm_of_step()
        if world_size() > 1:
            dist.all_reduce(measured)
        return dict(zip(MEASURED, measured.tolist(), strict=True)) | {"grad_norm": norm}

    def loss(
        self, part: Experience, weight_BT: Tensor, even_BT: Tensor, text_RT: Tensor | None, *, same: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The objective of some answers, each token by its weight, and MEASURED of them, tokens even."""
        config, network = self.config, self.nets if world_size() == 1 else self.engine
        said, text_loss = network(part.batch, text_RT)
        if same:
            must_agree(said.logprob, part)
        policy_BT = ppo.clipped_policy_loss(said.logprob, part.old, part.advantage, clip=config.clip_ratio)
        loss_BT = policy_BT - config.entropy_weight * said.entropy
        value_BT = torch.zeros_like(policy_BT)
        if config.method == "ppo":
            value_BT = ppo.clipped_value_loss(said.value, part.value, part.returns, clip=config.value_clip)
            loss_BT = loss_BT + value_BT
        if config.method == "grpo":
            loss_BT = loss_BT + config.kl_coefficient * ppo.kl_estimate(said.logprob, part.reference)
        ratio_BT = (said.logprob.detach() - part.old).exp()
        text_share = text_loss / world_size()  # every rank has its own rows of text
        loss = ppo.with_pretraining((loss_BT * weight_BT).sum(), text_share, weight=config.pretraining_weight)
        evenly = (value_BT.detach(), said.entropy.detach(), ((ratio_BT - 1).abs() > config.clip_ratio).float())
        seen = (loss.detach(), (policy_BT.detach() * weight_BT).sum(), *((one * even_BT).sum() for one in evenly))
        return loss, (*seen, text_share.detach())

    def values(self, batch: Batch) -> Tensor:
        """What the critic expects, without gradients, (B, T)."""
        with torch.no_grad():
            return self.nets.values(batch)

    def _backward(self, loss: Tensor) -> None:
        """Weights are of the whole minibatch: what DeepSpeed divides by ranks and micro batches is taken back."""
        if world_size() == 1:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self.engine.backward(loss * world_size() * self.each)
            self.engine.step()  # steps the optimizer on the last micro batch only

    def _norm_of_step(self) -> float:
        """Take the step, where DeepSpeed has not; the norm of the whole gradient before it was cut."""
        if world_size() > 1:
            return float(self.engine.get_global_grad_norm())
        norm = torch.nn.utils.clip_grad_norm_(self.nets.parameters(), self.config.clip)
        self.engine.optimizer.step()
        self.engine.optimizer.zero_grad()
        return float(norm)


def must_agree(logprob_BT: Tensor, part: Experience) -> None:
    """Raise where the policy that learns is not the one that spoke: the ratio of their probabilities begins at 1."""
    off = float(((logprob_BT.detach() - part.old) * part.batch.mask).abs().max())
    if not off <= SAME:
        raise WorkerFailed(
            f"expected sampled tokens to have the log-probability of the forward that learns to {SAME:g}, found a "
            f"difference of {off:.2g}. The network that samples computes otherwise; report it with the model."
        )
