"""Evaluation of one checkpoint: `-m lifecycle.workers.evaluate <job folder>`, or one of its ranks under torchrun."""

import datetime
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow
import torch
import torch.distributed as dist
from pyarrow import parquet
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from lifecycle.chat.protocol import load_tokenizer, protocol_of
from lifecycle.chat.render import load_renderer
from lifecycle.data.encoding import encode_documents
from lifecycle.data.jsonl import Row, load_rows
from lifecycle.evaluation.baselines import counted_bits
from lifecycle.evaluation.encode import Encoder, digest
from lifecycle.evaluation.engine import Engine, Settings
from lifecycle.evaluation.faster import faster
from lifecycle.evaluation.items import Item, read_items, write_items
from lifecycle.evaluation.journal import Alone, Journal, Peers
from lifecycle.evaluation.kinds import drift, next_token
from lifecycle.evaluation.kinds.next_token import BITS
from lifecycle.evaluation.kinds.suite import Reply, Suite
from lifecycle.stages.evaluate import Evaluated, EvaluateJob, chosen, chosen_documents
from lifecycle.workers import job as doorway
from lifecycle.workers.job import Recorder

SECONDS = "log/items_seconds.parquet"
# A rank waits for the others while they finish a suite; one that hangs is seen by the stage's own time limit first.
PATIENCE = datetime.timedelta(days=1)
Key = tuple[str, str, str]
"""Suite, slice and id."""


def evaluate(job: EvaluateJob, recorder: Recorder) -> Evaluated | None:
    """Write the record of every item to `out_dir`, and return what counting alone achieves on the same texts.

    Batches are shared out to ranks, and on CPUs to threads of one core each. Threads inside an operation would wait for
    each other at every one: 25 times slower on a machine that also does something else, and other roundings with
    another number of them.
    """
    clock, peers = Clock(recorder), join_peers()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    threads = 1 if torch.cuda.is_available() else max(1, job.threads // peers.ranks)
    with ThreadPoolExecutor(threads) as pool, ThreadPoolExecutor(1) as aside:
        evaluation = Evaluation(job, recorder, pool, peers)
        clock.lap("load_seconds")
        # Beside the batches where there is a GPU to wait for, among them where cores are all there is.
        baselines = (aside if torch.cuda.is_available() else pool).submit(counted_baselines, job, evaluation.documents)
        items: list[Item] = []
        for suite in job.suites:
            items += evaluation.of_suite(suite)
            clock.lap(f"{suite.name}_seconds")
        items += evaluation.of_documents()
        clock.lap("bits_per_byte_seconds")
        counted = baselines.result()
    if peers.rank > 0:
        return None
    items += drift.items(job.model)
    write_seconds(job, evaluation.seconds)
    return Evaluated(items=write_items(job.out_dir, items), copied_items=len(evaluation.copied), baselines=counted)


class Evaluation:
    """One checkpoint's evaluation: its model, what was scored before, and what is asked."""

    def __init__(self, job: EvaluateJob, recorder: Recorder, pool: Executor, peers: Peers) -> None:
        self.job, self.recorder = job, recorder
        self.encoder = Encoder(load_renderer(job.model))
        documents = [] if job.validation_file is None else list(load_rows(job.validation_file))
        self.documents = chosen_documents(job.config, documents)
        self.earlier: dict[Key, list[Item]] = {}
        for item in read_items(job.earlier) if job.earlier else ():
            self.earlier.setdefault((item.suite, item.slice, item.id), []).append(item)
        self.copied: list[Item] = []
        self.seconds: dict[Key, float] = {}
        config = job.config
        settings = Settings(
            max_new_tokens=config.max_new_tokens,
            temperature=config.sampled_temperature,
            seed=config.seed,
            context_tokens=config.context_tokens,
            max_seq_len=job.max_seq_len,
            batch_items=config.batch_items,
        )
        journal = Journal(job.scratch_dir / "replies", peers)
        self.engine = Engine(load_model(job), job.model, self.encoder, settings, journal, pool)

    def of_suite(self, suite: Suite) -> list[Item]:
        """The records of a suite's items, in the suite's order."""
        rows = chosen(self.job.config, suite.name, list(load_rows(suite.path)))
        fresh = [row for row in rows if self._key(suite, row) not in self.earlier]
        replies = self._ask(suite, fresh, [suite.asks(row) for row in fresh])
        more = self._ask(suite, fresh, [suite.asks_then(*pair) for pair in zip(fresh, replies, strict=True)])
        graded = {
            row["id"]: graded_or_not(suite, row, [*first, *then])
            for row, first, then in zip(fresh, replies, more, strict=True)
        }
        return [item for row in rows for item in graded.get(row["id"]) or self._copy(self._key(suite, row))]

    def of_documents(self) -> list[Item]:
        """The records of the validation documents; one with a token that has no probability is UNMEASURED."""
        rows = self.documents
        fresh = [row for row in rows if (BITS, row["source"], row["id"]) not in self.earlier]
        ids = self._ids(fresh)
        found = self.engine.documents(ids, lambda done, total: self._progress(done, total, "bits per byte"))
        for number, row in enumerate(fresh):
            self.seconds[BITS, row["source"], row["id"]] = self.engine.seconds.get(str(number), 0.0)
        scored = {
            (BITS, row["source"], row["id"]): next_token.record(
                source=row["source"],
                id=row["id"],
                prompt_digest=digest(tokens),
                tokens=len(tokens) - 1,
                bytes=len(row["text"].encode()),
                log_probability=value,
            )
            for row, tokens, value in zip(fresh, ids, found, strict=True)
        }
        keys = [(BITS, row["source"], row["id"]) for row in rows]
        return [item for key in keys for item in ([scored[key]] if key in scored else self._copy(key))]

    def _ask(self, suite: Suite, rows: Sequence[Row], asks: Sequence[Sequence[Any]]) -> list[list[list[Reply]]]:
        items = [(row["id"], list(some)) for row, some in zip(rows, asks, strict=True)]
        found = self.engine.replies(items, lambda done, total: self._progress(done, total, suite.name))
        for row in rows:
            key = self._key(suite, row)
            self.seconds[key] = self.seconds.get(key, 0.0) + self.engine.seconds.get(row["id"], 0.0)
        return found

    def _ids(self, rows: Sequence[Row]) -> list[list[int]]:
        bos_id = self.encoder.protocol.bos_id
        return list(encode_documents(load_tokenizer(self.job.model), [row["text"] for row in rows], bos_id=bos_id))

    def _copy(self, key: Key) -> list[Item]:
        self.copied += self.earlier[key]
        return self.earlier[key]

    def _progress(self, done: int, total: int, what: str) -> None:
        self.recorder.progress(min(done, total), total, "items", what)

    @staticmethod
    def _key(suite: Suite, row: Row) -> Key:
        return suite.name, row.get("slice", ""), row["id"]


class Clock:
    """Seconds of each part, for the log: no time goes into what is sealed as content."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.last = recorder, time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.recorder.metrics(0, **{name: round(now - self.last, 3)})
        self.last = now


class Ranks:
    """The processes that `torch.distributed.run` started. They meet only to exchange what is in their journals."""

    def __init__(self) -> None:
        dist.init_process_group("gloo", timeout=PATIENCE)
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))

    def wait(self) -> None:
        dist.barrier()


def join_peers() -> Peers:
    """The ranks of this evaluation, or none but this process."""
    return Ranks() if doorway.world_size() > 1 else Alone()


def load_model(job: EvaluateJob) -> Any:
    """The checkpoint's model, from safetensors alone, running no code that came with it."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[job.config.precision]
    model = AutoModelForCausalLM.from_pretrained(
        job.model, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False, use_safetensors=True
    )
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    network = faster(model)
    if network is model:
        said = "%s is no Llama that we know: transformers' own code answers, with the same numbers and more time"
        logging.getLogger(__name__).warning(said, type(model).__name__)
    return network


def graded_or_not(suite: Suite, row: Row, replies: Sequence[Sequence[Reply]]) -> list[Item]:
    """The records of a row. A grader that fails on it leaves the row UNMEASURED, with the failure's name."""
    try:
        return suite.graded(row, replies)
    except Exception as error:
        reason = f"grading_failed: {type(error).__name__}"
        logging.getLogger(__name__).exception("%s: item %r could not be graded", suite.name, row["id"])
        return [suite.ungraded(row, reply, reason) for reply in replies[0]]


def write_seconds(job: EvaluateJob, seconds: dict[Key, float]) -> None:
    """Wall seconds by item, its share of its batches: how it ran, and no part of what was found."""
    columns: list[list[Any]] = [list(column) for column in zip(*seconds, strict=True)] or [[], [], []]
    names = ("suite", "slice", "id")
    values = [round(value, 6) for value in seconds.values()]
    table = pyarrow.table({**dict(zip(names, columns, strict=True)), "seconds": values})
    parquet.write_table(table, job.out_dir / SECONDS, compression="zstd")


def counted_baselines(job: EvaluateJob, documents: Sequence[Row]) -> dict[str, float]:
    """Bits per byte of a unigram and an interpolated bigram model counted on the training documents; {} without any."""
    if job.train_file is None:
        return {}
    tokenizer = load_tokenizer(job.model)  # its own: rendering and encoding set another mode on a shared one
    bos_id = protocol_of(job.model).bos_id
    train = list(encode_documents(tokenizer, [row["text"] for row in load_rows(job.train_file)], bos_id=bos_id))
    scored = list(encode_documents(tokenizer, [row["text"] for row in documents], bos_id=bos_id))
    counted = counted_bits(train, scored, vocab_size=tokenizer.get_vocab_size())
    groups: dict[str, list[int]] = {BITS: list(range(len(documents)))}
    for index, row in enumerate(documents):
        groups.setdefault(f"{BITS}.{row['source']}", []).append(index)
    sizes = np.array([len(row["text"].encode()) for row in documents])
    return {
        f"{model}_{name}": round(float(bits[group].sum() / sizes[group].sum()), 6)
        for model, bits in counted._asdict().items()
        for name, group in sorted(groups.items())
    }


def main() -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    doorway.run(EvaluateJob, evaluate)


if __name__ == "__main__":
    main()
