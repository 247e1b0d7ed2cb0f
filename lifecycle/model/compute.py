"""How large a model and how much text an amount of compute is best spent on, and what a recipe costs. Torch-free.

Hoffmann et al. 2022 ("Chinchilla"), https://arxiv.org/abs/2203.15556: three ways to the same question. Besiroglu et al.
2024, https://arxiv.org/abs/2404.10102, fitted the third again: as published it disagrees with the other two because its
optimizer stopped early and its constants are rounded.

# N parameters (embeddings included), D tokens, C = 6 N D floating-point operations (Kaplan et al. 2020, section 2.1)
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.gpt2 import Gpt2Config

FLOPS_PER_TOKEN_AND_PARAMETER = 6  # 2 forward, 4 backward


class Optimum(NamedTuple):
    """The best split of a compute budget, as one approach sees it."""

    parameters: float
    tokens: float


@dataclass(frozen=True)
class PowerLaw:
    """N = parameters * (C / flops) ** exponent, through one row of the paper's table."""

    name: str
    exponent: float
    parameters: float
    flops: float

    def optimum(self, flops: float) -> Optimum:
        parameters = self.parameters * (flops / self.flops) ** self.exponent
        return Optimum(parameters, flops / (FLOPS_PER_TOKEN_AND_PARAMETER * parameters))


@dataclass(frozen=True)
class LossLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats per token of the paper's text and tokenizer; eq. 2 and 10."""

    name: str
    irreducible: float
    a: float
    b: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        return self.irreducible + self.a * math.pow(parameters, -self.alpha) + self.b * math.pow(tokens, -self.beta)

    def optimum(self, flops: float) -> Optimum:
        """Eq. 4: N = G (C/6)^(beta/(alpha+beta)), G = (alpha A / beta B)^(1/(alpha+beta))."""
        both = self.alpha + self.beta
        scale = (self.alpha * self.a / (self.beta * self.b)) ** (1 / both)
        parameters = scale * (flops / FLOPS_PER_TOKEN_AND_PARAMETER) ** (self.beta / both)
        return Optimum(parameters, flops / (FLOPS_PER_TOKEN_AND_PARAMETER * parameters))

    def compute_for(self, loss: float) -> float:
        """The least compute that reaches a loss: the law's optimum is steadily better with more, so by halving."""
        low, high = 1.0, 1e40
        while high / low > 1 + 1e-9:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.loss(*self.optimum(middle)) > loss else (low, middle)
        return high


# Exponents are those of table 2; the lines go through the 10-billion row of table 3 and of table A3. All other rows, of
# 0.4 to 10,000 billion parameters, then lie within 3 % and 4 %; approach 3 gives those of table A3 within 8 %.
APPROACH_1 = PowerLaw("1: lowest loss of each training curve", exponent=0.50, parameters=10e9, flops=1.23e22)
APPROACH_2 = PowerLaw("2: equal compute, different sizes", exponent=0.49, parameters=10e9, flops=1.32e22)
# The constants of eq. 10 before the paper rounded them, as its TeX source has them (Besiroglu et al., section 3).
APPROACH_3 = LossLaw("3: a fitted loss", irreducible=1.6934, a=406.4, b=410.7, alpha=0.3392, beta=0.2849)
REFIT = LossLaw("3, fitted again in 2024", irreducible=1.8172, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658)
APPROACHES: tuple[PowerLaw | LossLaw, ...] = (APPROACH_1, APPROACH_2, APPROACH_3, REFIT)

FAR = 2.0
"""A recipe is far from the optimum when it would need less compute than 1/FAR of its own to reach the same loss, or
when its size is outside of what the approaches say by this factor."""

FITTED_ON = (6e18, 3e21)
"""Operations of the runs the laws were fitted on (Hoffmann et al. 2022, section 3); beyond them they are guesses."""

PEAK_FLOPS = {
    "h100": 989e12,  # dense bf16, NVIDIA's data sheets; half of what they print with sparsity
    "h200": 989e12,
    "a100": 312e12,
    "l40s": 362e12,
    "rtx4090": 165e12,
}


def flops_of_run(model: ModelConfig | Gpt2Config, *, vocab_size: int, max_seq_len: int, tokens: float) -> float:
    """6 N D, and 12 L D T for the pairs of attention (Chowdhery et al. 2022, appendix B, eq. of model FLOPs)."""
    attention = 12 * model.layers * model.hidden_size * max_seq_len
    return tokens * (FLOPS_PER_TOKEN_AND_PARAMETER * model.parameters(vocab_size, max_seq_len) + attention)


def flops_of_hours(gpu_hours: float, *, peak_flops: float, mfu: float) -> float:
    """What that many hours of one accelerator compute at a share `mfu` of its peak."""
    return gpu_hours * 3600 * peak_flops * mfu


def hours_of_flops(flops: float, *, peak_flops: float, mfu: float) -> float:
    """GPU hours of that much compute."""
    return flops / (3600 * peak_flops * mfu)


class Judgement(NamedTuple):
    """How a recipe's split of its own compute compares with the best one."""

    smallest: float
    largest: float
    """Parameters: the lowest and the highest optimum of the approaches at this compute."""
    excess_loss: float
    """Nats per token above the optimum, by the law fitted again."""
    needed_share: float
    """Of its compute, at the optimum, to reach the same loss."""
    warnings: tuple[str, ...]


def judge(parameters: float, tokens: float) -> Judgement:
    """What the laws say of training `parameters` on `tokens`."""
    flops = FLOPS_PER_TOKEN_AND_PARAMETER * parameters * tokens
    sizes = [approach.optimum(flops).parameters for approach in APPROACHES]
    loss = REFIT.loss(parameters, tokens)
    share = REFIT.compute_for(loss) / flops
    warnings = []
    per_parameter = f"{tokens / parameters:,.1f} tokens a parameter"
    if parameters * FAR < min(sizes):
        warnings.append(
            f"small for its compute: {per_parameter}; the laws would train {min(sizes) / parameters:.1f} to "
            f"{max(sizes) / parameters:.1f} times the parameters on less text. Right where serving is what costs."
        )
    if parameters > FAR * max(sizes):
        warnings.append(
            f"large for its compute: {per_parameter}; the laws would train 1/{parameters / min(sizes):.1f} to "
            f"1/{parameters / max(sizes):.1f} of the parameters on more text, and be better and cheaper to serve."
        )
    if share * FAR < 1:
        warnings.append(f"its loss could be had for {100 * share:.0f} % of its compute.")
    return Judgement(min(sizes), max(sizes), loss - REFIT.loss(*REFIT.optimum(flops)), share, tuple(warnings))
