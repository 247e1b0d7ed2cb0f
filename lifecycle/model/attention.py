"""Which implementation of attention a training uses. Light: the planner asks too.

A table and not a probe at the start: probes flip between equal machines and between a run and its resumption, and the
bits of a loss with them. `python -m benchmarks.attention` measures what stands here.
"""

from typing import Literal

from lifecycle.model.machine import Device

Attention = Literal["auto", "eager", "sdpa", "flash_attention_2"]

EAGER_BELOW = 1024
"""Tokens of a row, on a CPU. In bf16 SDPA takes 2.8 times eager's time at 128 tokens, 1.6 at 256, 1.4 at 512, 0.9 at
1,024 and 0.8 at 2,048; and eager's memory grows with the square of the length."""


def implementation(attention: Attention, *, device: Device, tokens: int) -> str:
    """transformers' name of it; what `auto` means on this device for rows of so many tokens.

    On a GPU SDPA, which picks flash or cuDNN kernels by itself; a row measured there is still to come.
    """
    if attention != "auto":
        return attention
    return "eager" if device == "cpu" and tokens < EAGER_BELOW else "sdpa"
