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

from benchmarks.store import newest
from lifecycle.launchers.environment import worker_environment
from lifecycle.recipes.tiny import PACK

MARK = "LIFECYCLE_BENCHMARK"
BATCHES = (16, 64)
TOLERANCE = 2e-3  # of a log-probability, in nats: both sum a few hundred terms in fp32
BARS = {"generation": 3.0, "log-probability": 1.5, "none": 0.0}
NEW_TOKENS = 32


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
    processor_ratio: float
    """Of the seconds all cores worked: on a machine that does something else too, the steadier number."""


def measure(
    name: str, bar: str, n: int, ours: Callable[[], list[Any]], peers: Sequence[Callable[[], list[Any]]]
) -> Row:
    """Both in turn, several rounds; the peer's fastest variant counts."""
    took: list[list[float]] = [[] for _ in range(1 + len(peers))]
    worked: list[list[float]] = [[] for _ in took]
    said: list[list[Any]] = [[] for _ in took]
    for _ in range(ROUNDS):
        for side, run in enumerate((ours, *peers)):
            started, before = time.perf_counter(), time.process_time()
            said[side] = run()
            took[side].append(time.perf_counter() - started)
            worked[side].append(time.process_time() - before)
    mine, *others = map(statistics.median, took)
    fastest = 1 + others.index(min(others))
    theirs = statistics.median(took[fastest])
    row = Row(
        name=name,
        ours=round(mine, 3),
        peer=round(theirs, 3),
        ratio=round(theirs / mine, 2),
        unit="s",
        n=n,
        equal=sum(same(*pair) for pair in zip(said[0], said[fastest], strict=True)),
        bar=BARS[bar],
        spread=round(max(took[0]) / min(took[0]), 2),
        processor_ratio=round(statistics.median(worked[fastest]) / statistics.median(worked[0]), 2),
    )
    print(
        f"| {name} | {n} | {mine:.2f} | {theirs:.2f} | {row.ratio:.2f} | {row.bar or ''} | {row.processor_ratio:.2f} "
        f"| {row.equal} of {n} |",
        flush=True,
    )
    return row


def same(one: Any, other: Any) -> bool:
    """Equal texts; or log-probabilities that differ by rounding alone, and the same first choices where both say."""
    if isinstance(one, str):
        return bool(one == other)
    if isinstance(other, float):
        return abs(one[0] - other) <= TOLERANCE
    return bool(abs(one[0] - other[0]) <= TOLERANCE and one[1] == other[1])


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
    model = arguments.model or newest(arguments.store, "preference")
    rows = run(model, arguments.items, arguments.threads)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0 if all(row.ratio >= row.bar and row.equal == row.n for row in rows) else 1


class Sides:
    """The same checkpoint as our engine and as HFLM ask it, and the items both are asked."""

    def __init__(self, folder: Path, items: int, threads: int) -> None:
        import torch
        from lm_eval.models.huggingface import HFLM
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from lifecycle.chat.render import load_renderer
        from lifecycle.data.jsonl import read_lines
        from lifecycle.evaluation.encode import Encoder
        from lifecycle.evaluation.faster import faster

        network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
        self.folder, self.items, self.threads = folder, items, threads
        self.parameters, self.length = network.num_parameters(), network.config.max_position_embeddings
        self.encoder, self.fast = Encoder(load_renderer(folder)), faster(network)
        self.peers = [
            HFLM(
                pretrained=network,
                tokenizer=AutoTokenizer.from_pretrained(folder),
                batch_size=size,
                max_length=self.length,
            )
            for size in BATCHES
        ]
        self.rows = [line.row or {} for line in read_lines(PACK / "contract/test.jsonl.gz")][:items]
        self.questions = [row["messages"][:-1] for row in self.rows]
        self.contexts = [self.peers[0].apply_chat_template(question) for question in self.questions]

    def ours(self, asks: Sequence[Sequence[Any]], *, guesses: bool) -> list[Any]:
        """The engine's answers, or log-probabilities and first choices; a thread a core, each its own batches."""
        import torch

        from lifecycle.evaluation.engine import Engine, Settings
        from lifecycle.evaluation.journal import Alone, Journal

        torch.set_num_threads(1)
        settings = Settings(
            max_new_tokens=NEW_TOKENS,
            temperature=1.0,
            seed=0,
            context_tokens=0,
            max_seq_len=self.length,
            batch_items=64,
            guesses=guesses,
        )
        with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(self.threads) as pool:
            journal = Journal(Path(scratch), Alone())
            asked = Engine(self.fast, self.folder, self.encoder, settings, journal, pool)
            found = asked.replies([(str(n), some) for n, some in enumerate(asks)], lambda done, total: None)
        replies = [reply for item in found for (reply,) in item]
        return [r.text if r.mode == "greedy" else (r.log_probability, r.most_likely) for r in replies]

    def theirs(self, peer: Any, kind: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """HFLM's, with every core as threads of its operations."""
        import torch
        from lm_eval.api.instance import Instance

        torch.set_num_threads(self.threads)
        asked = [Instance(kind, {}, some, 0, ("benchmark", n, 1)) for n, some in enumerate(arguments)]
        return list(getattr(peer, kind)(asked, disable_tqdm=True))

    def both(
        self,
        name: str,
        bar: str,
        asks: list[list[Any]],
        kind: str,
        arguments: list[tuple[Any, ...]],
        *,
        guesses: bool = True,
    ) -> Row:
        peers = [lambda p=p: self.theirs(p, kind, arguments) for p in self.peers]
        return measure(name, bar, len(arguments), lambda: self.ours(asks, guesses=guesses), peers)


def run(folder: Path, items: int, threads: int) -> list[Row]:
    """Generation, multiple choice with long and one-token choices, and texts."""
    sides = Sides(folder, items, threads)
    print(f"{folder.name}: {sides.parameters:,} parameters, {threads} cores, medians of {ROUNDS} rounds")
    print("| task | requests | ours s | HFLM s | ratio | bar | processor time | equal |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    return [*generation(sides), *multiple_choice(sides), *texts(sides)]


def generation(sides: Sides) -> list[Row]:
    """Greedy answers to the contract items; once more with one token after the other, which has no bar."""
    from lifecycle.evaluation.kinds.suite import Generate

    asks: list[list[Any]] = [[Generate(question, samples=0)] for question in sides.questions]
    until = {"until": ["<|end|>"], "max_gen_toks": NEW_TOKENS, "do_sample": False}
    arguments = [(context, until) for context in sides.contexts]
    return [
        sides.both("greedy answers", "generation", asks, "generate_until", arguments),
        sides.both("greedy answers, no guesses", "none", asks, "generate_until", arguments, guesses=False),
    ]


def multiple_choice(sides: Sides) -> list[Row]:
    """Four choices behind each contract item: answers as they might be, and single letters."""
    from lifecycle.evaluation.kinds.suite import Likelihood

    draw = random.Random(0)
    values = sorted({str(row["value"]) for row in sides.rows})
    choices = [[json.dumps({row["field"]: value}) for value in draw.sample(values, 4)] for row in sides.rows]
    letters = [["A", "B", "C", "D"]] * len(sides.rows)
    found = []
    for name, several in (("4 choices of many tokens", choices), ("4 choices of one token", letters)):
        asks: list[list[Any]] = [
            [Likelihood(question, choice) for choice in some]
            for question, some in zip(sides.questions, several, strict=True)
        ]
        pairs = [(context, choice) for context, some in zip(sides.contexts, several, strict=True) for choice in some]
        found.append(sides.both(name, "log-probability", asks, "loglikelihood", pairs))
    return found


def texts(sides: Sides) -> list[Row]:
    """Passages of a book, every token scored: nothing is shared, nothing is left out.

    As the harness asks whole texts (`loglikelihood_rolling`, its tasks of perplexity: batches in the order of the
    items), and, without a bar, as if each were one long choice behind BOS (batches sorted by length).
    """
    from lifecycle.data.jsonl import read_lines
    from lifecycle.evaluation.kinds.suite import Likelihood

    lines = list(read_lines(PACK / "corpus/moby-dick.jsonl.gz"))[: 2 * sides.items]
    passages = [(line.row or {})["text"][:300] for line in lines]
    passages = [text for text in passages if len(sides.encoder.text(text)) < sides.length][: sides.items]
    bos = sides.peers[0].tokenizer.bos_token
    asks: list[list[Any]] = [[Likelihood("", text)] for text in passages]
    return [
        sides.both("texts", "log-probability", asks, "loglikelihood_rolling", [(text,) for text in passages]),
        sides.both("texts as one choice", "none", asks, "loglikelihood", [(bos, text) for text in passages]),
    ]


if __name__ == "__main__":
    sys.exit(main())
