"""Which implementation of attention is fastest here? The measurement behind `lifecycle.model.attention`.

    python -m benchmarks.attention --json attention.json

Forward and backward of one layer's attention, transformers' own functions, on 4,096 tokens in rows of several lengths;
once as the mask is causal alone, and once with documents of a quarter of a row kept apart. Both first give the same.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, eager_attention_forward

TOKENS, HEADS, HEAD_SIZE, ROUNDS = 4096, 4, 64, 7
LENGTHS = (128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class Row:
    """Milliseconds, medians of rounds in turn; `ratio` above 1: eager is faster."""

    name: str
    device: str
    dtype: str
    tokens: int
    apart: bool
    eager: float
    sdpa: float
    ratio: float
    n: int = ROUNDS


def measure(device: str, dtype: torch.dtype, tokens: int, *, apart: bool) -> Row:
    """Both implementations on the same queries, keys and values."""
    config = LlamaConfig(hidden_size=HEADS * HEAD_SIZE, num_attention_heads=HEADS, attn_implementation="eager")
    module = LlamaAttention(config, 0).to(device)
    shape = (TOKENS // tokens, HEADS, tokens, HEAD_SIZE)
    given = [torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]
    seen_TT = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()
    if apart:
        document_T = torch.arange(tokens, device=device) // (tokens // 4)
        seen_TT = seen_TT & (document_T[:, None] == document_T)
    # As transformers' masks come: one a row where documents differ, one for all where they do not.
    seen = seen_TT.expand(shape[0] if apart else 1, 1, tokens, tokens).contiguous()
    bias = torch.zeros(seen.shape, device=device).masked_fill(~seen, torch.finfo(torch.float32).min)

    def run(function: Callable[..., Any], mask: torch.Tensor | None) -> list[torch.Tensor]:
        out, _ = function(module, *given, mask, scaling=HEAD_SIZE**-0.5, dropout=0.0)
        return [out, *torch.autograd.grad(out.float().square().sum(), given)]

    sides = {"eager": lambda: run(eager_attention_forward, bias)}
    sides["sdpa"] = lambda: run(sdpa_attention_forward, seen if apart else None)
    for one, other in zip(sides["eager"](), sides["sdpa"](), strict=True):
        assert (one - other).norm() < 0.02 * other.norm(), "the two do not compute the same"
    took: dict[str, list[float]] = {name: [] for name in sides}
    clock = time.perf_counter if device == "cuda" else time.process_time
    for _ in range(ROUNDS):
        for name, side in sides.items():
            _wait(device)
            started = clock()
            side()
            _wait(device)
            took[name].append(1e3 * (clock() - started))
    eager, sdpa = (statistics.median(took[name]) for name in ("eager", "sdpa"))
    kind = str(dtype).removeprefix("torch.")
    name = f"{device}, {kind}, {tokens} tokens{', documents apart' if apart else ''}"
    return Row(name, device, kind, tokens, apart, round(eager, 2), round(sdpa, 2), round(sdpa / eager, 2))


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print a row a device, type and length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print("| device | type | tokens | documents | eager ms | sdpa ms | sdpa / eager |")
    print("|---|---|---:|---|---:|---:|---:|")
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        for dtype in (torch.float32, torch.bfloat16):
            for tokens in LENGTHS:
                for apart in (False, True):
                    row = measure(device, dtype, tokens, apart=apart)
                    rows.append(row)
                    kept = "apart" if apart else "run on"
                    print(
                        f"| {device} | {row.dtype} | {tokens} | {kept} | {row.eager} | {row.sdpa} | {row.ratio} |",
                        flush=True,
                    )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
