"""Evaluation of one checkpoint: `-m lifecycle.workers.evaluate <job folder>`."""

import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
import torch
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from lifecycle.chat.protocol import load_tokenizer, protocol_of
from lifecycle.chat.render import render
from lifecycle.data.encoding import encode_documents
from lifecycle.data.jsonl import Row, load_rows
from lifecycle.data.order import hash64
from lifecycle.evaluation.baselines import counted_bits
from lifecycle.evaluation.decoding import Decoding, Prompt, Reply, replies
from lifecycle.evaluation.grading import grade
from lifecycle.evaluation.items import BITS, Answer, Document, write_items
from lifecycle.evaluation.next_token import document_bits
from lifecycle.stages.evaluate import EvaluateConfig, Evaluated, EvaluateJob
from lifecycle.workers import job as doorway
from lifecycle.workers.job import Recorder

BITS_DIGITS = 4  # what rounding and the number of threads do to a sum stays below this


def evaluate(job: EvaluateJob, recorder: Recorder) -> Evaluated:
    """Write the record of every item to `out_dir`, and return what counting alone achieves on the same texts.

    Batches are shared out to threads of one core each. Threads inside an operation would wait for each other at every
    one: 25 times slower on a machine that also does something else, and other roundings with another number of them.
    """
    clock = Clock(recorder)
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    tokenizer, model = load_tokenizer(job.model), load_model(job.model, job.config)
    texts = validation_texts(job, tokenizer)
    clock.lap("load_seconds")
    answers: list[Answer] = []
    with ThreadPoolExecutor(1 if torch.cuda.is_available() else job.threads) as pool:
        baselines = pool.submit(counted_baselines, job, texts)
        for suite, file in job.suites.items():
            answers += contract_answers(model, tokenizer, suite, list(load_rows(file)), job, recorder, pool)
            clock.lap(f"{suite}_seconds")
        documents = scored_texts(model, texts, job, recorder, pool)
        clock.lap("bits_per_byte_seconds")
        counted = baselines.result()
    return Evaluated(items=write_items(job.out_dir, [*answers, *documents]), baselines=counted)


class Clock:
    """Seconds of each part, for the log: no time goes into what is sealed as content."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.last = recorder, time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.recorder.metrics(0, **{name: round(now - self.last, 3)})
        self.last = now


def load_model(folder: Path, config: EvaluateConfig) -> Any:
    """The model of a folder, from safetensors alone, running no code that came with it."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[config.precision]
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False, use_safetensors=True
    )
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def contract_answers(
    model: Any,
    tokenizer: tokenizers.Tokenizer,
    suite: str,
    rows: Sequence[Row],
    job: EvaluateJob,
    recorder: Recorder,
    pool: Executor,
) -> list[Answer]:
    """Every item of a suite answered greedily and by sampling, in the suite's order."""
    prompts = [Prompt(row["id"], render(tokenizer, row["messages"], generation_prompt=True).ids) for row in rows]
    found: dict[str, list[Reply]] = {}
    for batch in replies(model, prompts, decoding(job), batch=job.config.batch_items, pool=pool):
        for reply in batch:
            found.setdefault(reply.prompt.id, []).append(reply)
        recorder.progress(len(found), len(rows), "items", f"{suite}: answering")
    return [graded(tokenizer, suite, row, reply) for row in rows for reply in found[row["id"]]]


def decoding(job: EvaluateJob) -> Decoding:
    protocol, config = protocol_of(job.model), job.config
    return Decoding(
        stop_id=protocol.stop_id,
        pad_id=protocol.pad_id,
        max_new_tokens=config.max_new_tokens,
        temperature=config.sampled_temperature,
        seed=config.seed,
    )


def graded(tokenizer: tokenizers.Tokenizer, suite: str, row: Row, reply: Reply) -> Answer:
    """The record of one reply. Special tokens in it stay visible: an answer with a role token in it is not terse."""
    text = tokenizer.decode(reply.ids, skip_special_tokens=False)
    grades = None if reply.fault else grade(text, row["field"], row["value"])
    return Answer(
        suite=suite,
        id=row["id"],
        mode=reply.mode,
        prompt_digest=sha256(np.array(reply.prompt.ids, "<u4").tobytes()).hexdigest()[:16],
        answer=text,
        correct=grades and grades.correct,
        terse=grades and grades.terse,
        exact=grades and grades.exact,
        stopped=None if reply.fault else reply.stopped,
        tokens=reply.tokens,
        bits=None if reply.fault else round(reply.bits, BITS_DIGITS),
        unmeasured=reply.fault,
    )


class Text(NamedTuple):
    """A validation document, with its ids behind BOS."""

    source: str
    id: str
    bytes: int
    ids: list[int]


def validation_texts(job: EvaluateJob, tokenizer: tokenizers.Tokenizer) -> list[Text]:
    """The documents to score, in the corpus's order; of a source with too many, those with the smallest hash."""
    rows, most = list(load_rows(job.validation_file)), job.config.validation_documents_per_source
    chosen = set(range(len(rows)))
    for source in {row["source"] for row in rows} if most else ():
        own = [index for index, row in enumerate(rows) if row["source"] == source]
        own.sort(key=lambda index: (hash64("evaluate", job.config.seed, source, rows[index]["id"]), index))
        chosen -= set(own[most:])
    rows = [row for index, row in enumerate(rows) if index in chosen]
    ids = encode_documents(tokenizer, [row["text"] for row in rows], bos_id=protocol_of(job.model).bos_id)
    pairs = zip(rows, ids, strict=True)
    return [Text(row["source"], row["id"], len(row["text"].encode()), tokens) for row, tokens in pairs]


def scored_texts(
    model: Any, texts: Sequence[Text], job: EvaluateJob, recorder: Recorder, pool: Executor
) -> list[Document]:
    """The bits of every document; one with a token that has none is UNMEASURED, not dropped."""
    bits = [0.0] * len(texts)
    batches = document_bits(
        model,
        [text.ids for text in texts],
        max_seq_len=job.max_seq_len,
        context_tokens=job.config.context_tokens,
        batch=job.config.batch_items,
        pool=pool,
    )
    touched: set[int] = set()
    for added in batches:
        for document, value in added.items():
            bits[document] += value
        touched |= added.keys()
        recorder.progress(len(touched), len(texts), "documents", "bits per byte")
    return [
        Document(
            source=text.source,
            id=text.id,
            tokens=len(text.ids) - 1,
            bytes=text.bytes,
            bits=round(value, BITS_DIGITS) if math.isfinite(value) else None,
            unmeasured=None if math.isfinite(value) else "bits_not_finite",
        )
        for text, value in zip(texts, bits, strict=True)
    ]


def counted_baselines(job: EvaluateJob, texts: Sequence[Text]) -> dict[str, float]:
    """Bits per byte of a unigram and an interpolated bigram model counted on the training documents."""
    tokenizer = load_tokenizer(job.model)  # its own: rendering and encoding set another mode on a shared one
    bos_id = protocol_of(job.model).bos_id
    train = list(encode_documents(tokenizer, [row["text"] for row in load_rows(job.train_file)], bos_id=bos_id))
    counted = counted_bits(train, [text.ids for text in texts], vocab_size=tokenizer.get_vocab_size())
    groups: dict[str, list[int]] = {BITS: list(range(len(texts)))}
    for index, text in enumerate(texts):
        groups.setdefault(f"{BITS}.{text.source}", []).append(index)
    sizes = np.array([text.bytes for text in texts])
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
