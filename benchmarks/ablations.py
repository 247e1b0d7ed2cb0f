"""What does each protocol fault cost that a contract catches, had it not been caught?

    python -m benchmarks.ablations --store .lifecycle --json docs/ablations.json

Every fault is planted behind the contracts, in a bare training loop from the sealed base of the tiny recipe, or in the
prompts of a model that was trained without one. Greedy answers to held-out items are graded as the contract suite
grades them; the training loss stands beside them, because it is what people look at. Which test catches each fault
before training or serving: `tests/lifecycle/test_protocol_faults.py`.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.store import newest
from lifecycle.evaluation.statistics import Interval, clopper_pearson, paired
from lifecycle.launchers.environment import worker_environment

MARK = "LIFECYCLE_BENCHMARK"
TAIL = 0.025  # two-sided 95 %
NEW_TOKENS = 32
SYSTEM = {"role": "system", "content": "Answer with the value alone."}


class Taught(NamedTuple):
    """A conversation as it is trained on."""

    ids: list[int]
    assistant_mask: list[int]


@dataclass(frozen=True)
class Row:
    """One fault: loss in training at its end, and answers that are right and end by themselves, of `n`."""

    fault: str
    where: str
    loss: float | None
    right: int
    stopped: int
    n: int
    low: float
    high: float
    against: str | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None


def mask_off(row: Taught, stop_id: int) -> Taught:
    """Every token is in the loss."""
    return Taught(row.ids, [1] * len(row.ids))


def mask_one_late(row: Taught, stop_id: int) -> Taught:
    """As where labels are shifted twice: the first token of an answer is not in the loss."""
    return Taught(row.ids, [0, *row.assistant_mask[:-1]])


def stop_unsupervised(row: Taught, stop_id: int) -> Taught:
    """As where the stop token is taken for padding."""
    return Taught(row.ids, [int(m and t != stop_id) for t, m in zip(row.ids, row.assistant_mask, strict=True)])


def right(row: Taught, stop_id: int) -> Taught:
    return row


TRAINED: dict[str, tuple[Callable[[Taught, int], Taught], bool]] = {
    "none": (right, False),
    "mask off": (mask_off, False),
    "mask one token late": (mask_one_late, False),
    "stop token unsupervised": (stop_unsupervised, False),
    "packing without boundaries": (right, True),
    "none, with a system prompt": (right, False),
}
"""What is done to each row, and whether rows are packed without boundaries."""

WITH_SYSTEM = "none, with a system prompt"
ASKED = {"none": ("template edited", "BOS doubled"), WITH_SYSTEM: ("system prompt dropped",)}
"""Faults of what a model is asked, by how it was trained."""


class Answers(NamedTuple):
    """By item: whether it is right and ended by itself."""

    right: list[bool]
    stopped: list[bool]


def conversations_of(fault: str, file: Path) -> Iterator[list[dict[str, str]]]:
    """Conversations of a file; half of those with a system prompt, whose answer is the value alone."""
    from lifecycle.data.jsonl import load_rows
    from lifecycle.evaluation.grading import json_objects

    for number, row in enumerate(load_rows(file)):
        *turns, answer = row["messages"]
        if fault == WITH_SYSTEM and number % 2:
            ((_, _, said),) = json_objects(answer["content"])
            (value,) = (said or {}).values()
            turns, answer = [SYSTEM, *turns], {"role": "assistant", "content": str(value)}
        yield [*turns, answer]


def train(fault: str, base: Path, file: Path, steps: int) -> tuple[Any, float]:
    """The model after `steps` of 16 conversations, as the tiny recipe trains, and the loss of its last tenth."""
    import torch
    from transformers import AutoModelForCausalLM

    from lifecycle.chat.render import load_renderer
    from lifecycle.data.order import shuffled
    from lifecycle.training import conversations
    from lifecycle.training.schedule import learning_rate

    torch.manual_seed(0)
    change, packed = TRAINED[fault]
    renderer, model = load_renderer(base), AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    most, stop_id = model.config.max_position_embeddings, renderer.protocol.stop_id
    rendered = (renderer.render(messages) for messages in conversations_of(fault, file))
    rows = [change(Taught(*found), stop_id) for found in rendered if len(found.ids) <= most]
    epochs = range(1 + 16 * steps // len(rows))
    order = [n for epoch in epochs for n in shuffled(range(len(rows)), len(rows), "ablations", epoch).tolist()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    losses = []
    for step in range(steps):
        batch = [rows[n] for n in order[16 * step : 16 * step + 16]]
        if packed:
            inputs = conversations.packed(batch, pad_id=renderer.protocol.pad_id, row_tokens=most, additive=True)
            inputs = {name: inputs[name] for name in ("input_ids", "labels")}
        else:
            inputs = conversations.padded(batch, pad_id=renderer.protocol.pad_id)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(
                step, steps=steps, peak=2e-3, warmup_steps=steps // 20, schedule="cosine", final_share=0.0
            )
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**inputs, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return model.eval(), statistics.fmean(losses[-steps // 10 :])


def prompts_of(fault: str, renderer: Any, rows: Sequence[dict[str, Any]], told: bool) -> list[list[int]]:
    """The ids each item is asked with; `told`: behind the system prompt."""
    found = []
    for row in rows:
        turns = row["messages"]
        if told and fault != "system prompt dropped":
            turns = [SYSTEM, *turns]
        if fault == "template edited":  # a new line behind each role, as other templates have it
            turns = [{**turn, "content": "\n" + turn["content"]} for turn in turns]
        ids = renderer.render(turns, generation_prompt=True).ids
        if fault == "template edited":
            ids = ids + renderer.tokenizer.encode("\n", add_special_tokens=False).ids
        found.append([renderer.protocol.bos_id, *ids] if fault == "BOS doubled" else ids)
    return found


def ask(model: Any, renderer: Any, prompts: Sequence[list[int]], rows: Sequence[dict[str, Any]], told: bool) -> Answers:
    """Greedy answers, graded as the contract suite does: an answer that does not end is not right."""
    from lifecycle.evaluation.decoding import Decoding, Prompt, decode
    from lifecycle.evaluation.faster import faster
    from lifecycle.evaluation.grading import grade

    decoding = Decoding(
        stop_id=renderer.protocol.stop_id, max_new_tokens=NEW_TOKENS, temperature=1.0, seed=0, samples=0
    )
    network, drawn = faster(model), []
    for begin in range(0, len(prompts), 64):
        some = [Prompt(str(n), ids) for n, ids in enumerate(prompts[begin : begin + 64])]
        drawn += decode(network, some, decoding)
    texts = [renderer.tokenizer.decode(draw.ids, skip_special_tokens=False) for draw in drawn]
    stopped = [draw.stopped for draw in drawn]
    correct = [
        text == str(row["value"]) if told else grade(text, row["field"], row["value"]).correct
        for text, row in zip(texts, rows, strict=True)
    ]
    return Answers([c and s for c, s in zip(correct, stopped, strict=True)], stopped)


def run(fault: str, base: Path, file: Path, suite: Path, steps: int, items: int) -> dict[str, tuple[float, Answers]]:
    """Train with a fault and ask; then ask the same model with each fault of asking."""
    import torch

    from lifecycle.chat.render import load_renderer
    from lifecycle.data.jsonl import load_rows

    torch.set_num_threads(1)
    rows = list(load_rows(suite))[:items]
    told, renderer = fault == WITH_SYSTEM, load_renderer(base)
    model, loss = train(fault, base, file, steps)
    most = model.config.max_position_embeddings - NEW_TOKENS
    rows = [row for row in rows if len(prompts_of("none", renderer, [row], told=told)[0]) + 4 <= most]
    found = {}
    for name in (fault, *ASKED.get(fault, ())):
        found[name] = (loss, ask(model, renderer, prompts_of(name, renderer, rows, told=told), rows, told=told))
    return found


def row_of(fault: str, loss: float | None, answers: Answers, against: str | None, other: Answers | None) -> Row:
    """Exact interval of the share of right answers; Tango's of the difference on the same items."""
    n, count = len(answers.right), sum(answers.right)
    low, high = clopper_pearson(count, n, tail=TAIL)
    change: Interval | None = None
    if other is not None:
        gained = sum(a and not b for a, b in zip(answers.right, other.right, strict=True))
        lost = sum(b and not a for a, b in zip(answers.right, other.right, strict=True))
        change = paired(gained, lost, n, tail=TAIL)
    return Row(
        fault=fault,
        where="training" if loss is not None else "asking",
        loss=None if loss is None else round(loss, 4),
        right=count,
        stopped=sum(answers.stopped),
        n=n,
        low=round(low, 4),
        high=round(high, 4),
        against=against,
        difference=None if other is None else round((count - sum(other.right)) / n, 4),
        difference_low=None if change is None else round(change.low, 4),
        difference_high=None if change is None else round(change.high, 4),
    )


def _line(row: Row) -> str:
    loss = "" if row.loss is None else f"{row.loss:.4f}"
    shares = f"{row.right / row.n:.3f} | {row.low:.3f} to {row.high:.3f} | {row.stopped / row.n:.3f}"
    change = " | "
    if row.difference is not None:
        change = f"{row.difference:+.3f} | {row.difference_low:+.3f} to {row.difference_high:+.3f}"
    return f"| {row.fault} | {loss} | {shares} | {change} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(os.environ.get("LIFECYCLE_STORE", ".lifecycle")))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--items", type=int, default=512)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if MARK not in os.environ:  # one core a process; OpenMP reads its settings when a process starts
        environment = {**worker_environment(1), MARK: "1"}
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.ablations", *sys.argv[1:]], environment)
    one = partial(
        run,
        base=newest(arguments.store, "pretrain"),
        file=newest(arguments.store, "demonstrations") / "train.jsonl",
        suite=newest(arguments.store, "suites") / "contract.jsonl",
        steps=arguments.steps,
        items=arguments.items,
    )
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        found = {name: pair for several in pool.map(one, TRAINED) for name, pair in several.items()}
    served = {asked: trained for trained, several in ASKED.items() for asked in several}
    rows = []
    print("| fault | training loss | right | 95 % | ended | change | 95 % |\n|---|---:|---:|---:|---:|---:|---:|")
    for name, (loss, answers) in found.items():
        against = served.get(name, None if name in ("none", WITH_SYSTEM) else "none")
        other = None if against is None else found[against][1]
        row = row_of(name, None if name in served else loss, answers, against, other)
        rows.append(asdict(row))
        print(_line(row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"steps": arguments.steps, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
