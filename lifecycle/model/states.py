"""Sizes of what a rank carries from step to step: weights, gradients, optimizer state, and DeepSpeed's buffers."""

from dataclasses import dataclass, replace
from functools import cached_property

from lifecycle.model.activations import FP32, Work
from lifecycle.model.zero import ZeroConfig

# DeepSpeed's own defaults, which our settings leave as they are (deepspeed/runtime/zero/config.py).
PERSISTENT_BELOW = 100_000
"""ZeRO 3 keeps tensors of at most so many numbers whole on every rank."""
LIVE_AT_MOST = 1_000_000_000
"""ZeRO 3 lets so many gathered numbers stay for their next use."""
FETCHED_AT_ONCE = 50_000_000
ALLREDUCED_AT_ONCE = 500_000_000
"""Numbers ZeRO 0 puts end to end to reduce them."""
DOUBLE = 8
RANDOM_STATE = 5056
"""Bytes of torch's CPU generator, kept by each layer that will be computed again."""
SMALL_CHANGE = 2**15
"""Scalars, and tables of a few numbers, of the whole run."""


@dataclass(frozen=True)
class Run:
    """What decides how much memory a rank needs."""

    work: Work
    vocab_size: int
    zero: ZeroConfig
    ranks: int = 1
    accumulation: int = 1
    """Micro batches per optimizer step."""
    checkpointing: bool = False
    stages: tuple[int, ...] = (0, 1, 2, 3)
    """ZeRO stages that the rest of its settings allow."""


@dataclass(frozen=True)
class Moment:
    """What a rank holds at one moment, in bytes."""

    name: str
    parameters: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    logits: int = 0
    buffers: int = 0

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimizer + self.activations + self.logits + self.buffers

    def plus(self, name: str, **more: int) -> "Moment":
        """This moment under another name, with so many more bytes in some of its parts."""
        return replace(self, name=name, **{part: getattr(self, part) + size for part, size in more.items()})


PARTS = ("parameters", "gradients", "optimizer", "activations", "logits", "buffers")


@dataclass(frozen=True)
class States:
    """Sizes of what training carries from step to step, in bytes."""

    run: Run

    @cached_property
    def tensors(self) -> list[int]:
        """Numbers in each trained tensor, in the order of the network."""
        model = self.run.work.model
        embedding, *rest = model.outer_tensors(self.run.vocab_size, self.run.work.tokens + 1)
        return [embedding, *model.layer_tensors() * model.layers, *rest]

    @cached_property
    def groups(self) -> list[list[int]]:
        """The optimizer's two groups: matrices, which are decayed, and vectors."""
        widest = max(self.run.work.model.hidden_size * 4, self.run.work.model.intermediate_size)
        matrices = [size for size in self.tensors if size > widest]
        return [matrices, [size for size in self.tensors if size <= widest]]

    @cached_property
    def parameters(self) -> int:
        return FP32 * sum(self.tensors)

    @cached_property
    def largest(self) -> int:
        return FP32 * max(self.tensors)

    @cached_property
    def share(self) -> int:
        """One rank's equal part of all numbers."""
        return sum(self.parts)

    @cached_property
    def parts(self) -> list[int]:
        """One rank's equal part of each group."""
        return [FP32 * self._part(group) for group in self.groups]

    @cached_property
    def gradient_share(self) -> int:
        """ZeRO 1 and 2 keep the whole gradient of every tensor that touches a rank's part; of the rank with most."""
        held = [0] * self.run.ranks
        for group in self.groups:
            size, at = self._part(group), 0
            for numbers in group:
                for rank in range(at // size, (at + numbers - 1) // size + 1):
                    held[rank] += numbers
                at += numbers
        return max(FP32 * max(held), self.share)

    @property
    def gradient_share_here(self) -> int:
        """What of that is on the device: to an optimizer in host memory they go as they are reduced. Of several micro
        batches each gradient comes back to be added to; all of them at once is more than was measured.
        """
        return 0 if self.run.zero.offload_optimizer and self.run.accumulation == 1 else self.gradient_share

    def _part(self, group: list[int]) -> int:
        """Numbers of a group that are one rank's; each group is padded to be divided."""
        return -(-sum(group) // (2 * self.run.ranks)) * 2

    @cached_property
    def gathered(self) -> tuple[int, int]:
        """ZeRO 3: whole tensors that stay, and those that are fetched and may go again."""
        if self.run.ranks == 1:
            return 0, 0
        stays = sum(size for size in self.tensors if size <= PERSISTENT_BELOW)
        return FP32 * stays, FP32 * (sum(self.tensors) - stays)

    @cached_property
    def bucket(self) -> int:
        return FP32 * self.run.zero.bucket_elements

    @cached_property
    def in_bucket(self) -> int:
        """What of the bucket is ever filled; a larger tensor is reduced by itself."""
        return max(min(self.bucket, self.parameters), self.largest)

    @property
    def reduces_early(self) -> bool:
        """Is the bucket full before the backward pass ends?"""
        return self.bucket < self.parameters

    @cached_property
    def embedding(self) -> int:
        return FP32 * self.tensors[0]

    def resident(self) -> Moment:
        """Between two steps, from the second on."""
        stage, offloaded = self.run.zero.stage, self.run.zero.offload_optimizer
        optimizer = {0: 2 * self.parameters}.get(stage, 3 * self.share)  # ZeRO keeps a copy of the weights to step on
        held = 0 if offloaded else optimizer
        whole = Moment("resident", parameters=self.parameters, optimizer=held, buffers=SMALL_CHANGE)
        if stage < 3:  # a gradient on its way to the host goes through a place as large as the largest
            return whole.plus("resident", buffers=self.largest if offloaded else 0)
        stays, _ = self.gathered
        own = 0 if self.run.zero.offload_parameters else self.share
        gradients = 0 if offloaded else self.share
        return replace(whole, parameters=own + stays, gradients=gradients, buffers=SMALL_CHANGE + self.bucket)
