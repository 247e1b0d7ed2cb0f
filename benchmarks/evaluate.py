"""How fast are items answered and scored, against lm-evaluation-harness's HFLM on the same model, items and cores?

    python -m benchmarks.evaluate --store .lifecycle --json evaluate.json

The newest preference checkpoint of a store (`make run` leaves one) answers the contract items that ship here. HFLM has
every core as threads of its operations, and the better of its batch sizes counts; ours is the engine of the evaluate
stage, journal included. A row counts only where both gave the same answers.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lifecycle.launch import worker_environment
from lifecycle.recipes.tiny import PACK

MARK = "LIFECYCLE_BENCHMARK"
BATCHES = (16, 64)
TOLERANCE = 2e-3  # of a log-probability, in nats: both sum a few hundred terms in fp32
BARS = {"generation": 3.0, "log-probability": 1.5}


@dataclass(frozen=True)
class Row:
    """One measurement: seconds are medians, `spread` the slowest over the fastest round of ours."""

    name: str
    ours: float
    peer: float
    ratio: float
    unit: str
    n: int
    equal: int
    bar: float
    spread: float


def measure(
    name: str, bar: str, n: int, ours: Callable[[], list[Any]], peers: Sequence[Callable[[], list[Any]]]
) -> Row:
    """Both in turn, several rounds; the peer's fastest variant counts."""
    took: list[list[float]] = [[] for _ in range(1 + len(peers))]
    said: list[list[Any]] = [[] for _ in took]
    for _ in range(ROUNDS):
        for side, run in enumerate((ours, *peers)):
            started = time.perf_counter()
            said[side] = run()
            took[side].append(time.perf_counter() - started)
    mine, theirs = statistics.median(took[0]), min(map(statistics.median, took[1:]))
    equal = sum(same(*pair) for pair in zip(said[0], said[1], strict=True))
    spread = max(took[0]) / min(took[0])
    row = Row(
        name, round(mine, 3), round(theirs, 3), round(theirs / mine, 2), "s", n, equal, BARS[bar], round(spread, 2)
    )
    print(
        f"| {name} | {n} | {mine:.2f} | {theirs:.2f} | {row.ratio:.2f} | {row.bar} | {equal} of {len(said[0])} |",
        flush=True,
    )
    return row


def same(one: Any, other: Any) -> bool:
    """Equal texts; or log-probabilities that differ by rounding alone, and the same first choices."""
    if isinstance(one, str):
        return bool(one == other)
    return abs(one[0] - other[0]) <= TOLERANCE and one[1] == other[1]


ROUNDS = 5


def main() -> int:
    """Print a row a task; exit code 1 when a bar does not hold or answers differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(os.environ.get("LIFECYCLE_STORE", ".lifecycle")))
    parser.add_argument("--model", type=Path, help="A checkpoint folder instead of the store's newest.")
    parser.add_argument("--items", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if MARK not in os.environ:  # glibc reads its settings when a process starts; both sides gain by them
        environment = {**worker_environment(arguments.threads), MARK: "1"}
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.evaluate", *sys.argv[1:]], environment)
    globals()["ROUNDS"] = arguments.rounds
    model = arguments.model or newest(arguments.store)
    rows = run(model, arguments.items, arguments.threads)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0 if all(row.ratio >= row.bar and row.equal == row.n for row in rows) else 1


def newest(store: Path) -> Path:
    """The last preference checkpoint that was sealed."""
    found = sorted((store / "artifacts/preference").glob("*/manifest.json"), key=lambda file: file.stat().st_mtime)
    if not found:
        sys.exit(f"expected a preference checkpoint in {store}, found none. Give `make run` first, or --model FOLDER.")
    return found[-1].parent


def run(folder: Path, items: int, threads: int) -> list[Row]:
    """Generation, multiple choice with long and one-token choices, and texts."""
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lifecycle.chat.protocol import load_tokenizer, protocol_of
    from lifecycle.data.jsonl import read_lines
    from lifecycle.evaluation.encode import Encoder
    from lifecycle.evaluation.engine import Engine, Settings
    from lifecycle.evaluation.journal import Alone, Journal
    from lifecycle.evaluation.kinds.suite import Ask, Generate, Likelihood
    from lifecycle.evaluation.llama import faster

    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    length = network.config.max_position_embeddings
    encoder, fast = Encoder(load_tokenizer(folder), protocol_of(folder)), faster(network)
    peers = [
        HFLM(pretrained=network, tokenizer=AutoTokenizer.from_pretrained(folder), batch_size=size, max_length=length)
        for size in BATCHES
    ]
    settings = Settings(
        max_new_tokens=32, temperature=1.0, seed=0, context_tokens=0, max_seq_len=length, batch_items=64
    )
    rows = [line.row or {} for line in read_lines(PACK / "contract/test.jsonl.gz")][:items]
    questions = [row["messages"][:-1] for row in rows]

    def engine(asks: Sequence[Sequence[Ask]]) -> list[Any]:
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(threads) as pool:
            asked = Engine(fast, folder, encoder, settings, Journal(Path(scratch), Alone()), pool)
            found = asked.replies([(str(n), some) for n, some in enumerate(asks)], lambda done, total: None)
        replies = [reply for item in found for (reply,) in item]
        return [r.text if r.mode == "greedy" else (r.log_probability, r.most_likely) for r in replies]

    def harness(peer: Any, kind: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        torch.set_num_threads(threads)
        asked = [Instance(kind, {}, some, 0, ("benchmark", n, 1)) for n, some in enumerate(arguments)]
        return list(getattr(peer, kind)(asked, disable_tqdm=True))

    def both(name: str, bar: str, asks: list[list[Ask]], kind: str, arguments: list[tuple[Any, ...]]) -> Row:
        return measure(
            name,
            bar,
            len(arguments),
            lambda: engine(asks),
            [lambda p=p: harness(p, kind, arguments) for p in peers],  # type: ignore[misc]
        )

    print(f"{folder.name}: {network.num_parameters():,} parameters, {threads} cores, medians of {ROUNDS} rounds")
    print("| task | requests | ours s | HFLM s | ratio | bar | equal |\n|---|---:|---:|---:|---:|---:|---:|")
    contexts = [peers[0].apply_chat_template(question) for question in questions]
    until = {"until": ["<|end|>"], "max_gen_toks": 32, "do_sample": False}
    draw = random.Random(0)
    values = sorted({str(row["value"]) for row in rows})
    choices = [[json.dumps({row["field"]: value}) for value in draw.sample(values, 4)] for row in rows]
    letters = [["A", "B", "C", "D"]] * len(rows)
    lines = list(read_lines(PACK / "corpus/moby-dick.jsonl.gz"))[: 2 * items]
    texts = [(line.row or {})["text"][:300] for line in lines]
    texts = [text for text in texts if len(encoder.text(text)) < length][:items]
    found = [
        both(
            "greedy answers",
            "generation",
            [[Generate(question, samples=0)] for question in questions],
            "generate_until",
            [(context, until) for context in contexts],
        )
    ]
    for name, several in (("4 choices of many tokens", choices), ("4 choices of one token", letters)):
        asks: list[list[Ask]] = [
            [Likelihood(question, choice) for choice in some] for question, some in zip(questions, several, strict=True)
        ]
        pairs = [(context, choice) for context, some in zip(contexts, several, strict=True) for choice in some]
        found.append(both(name, "log-probability", asks, "loglikelihood", pairs))
    bos = peers[0].tokenizer.bos_token
    behind: list[list[Ask]] = [[Likelihood("", text)] for text in texts]
    found.append(both("texts", "log-probability", behind, "loglikelihood", [(bos, text) for text in texts]))
    return found


if __name__ == "__main__":
    sys.exit(main())
