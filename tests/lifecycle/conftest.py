"""A model of 20,000 random weights that speaks our protocol, what to train it on, and reports about it."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from lifecycle.artifacts import (
    Checkpoint,
    Comparisons,
    Contamination,
    Corpus,
    Demonstrations,
    EvalReport,
    SourceCount,
    Suites,
)
from lifecycle.chat.folder import save_tokenizer
from lifecycle.chat.protocol import special_tokens
from lifecycle.chat.render import Renderer, load_renderer
from lifecycle.data.jsonl import write_rows
from lifecycle.data.layout import BestFit, Concatenated, Packing, Segments
from lifecycle.data.packing import INDEX, Cuts, Index, RowWriter
from lifecycle.evaluation.items import Item, write_items
from lifecycle.evaluation.kinds import next_token
from lifecycle.evaluation.metrics import measured, scores
from lifecycle.sealing import StageConfig

TEXT = ["the record of a package", 'Return "section" from this record as JSON.', '{"section": "libs"}', "naïve 日本 🎉"]
MAX_SEQ_LEN = 64


class MadeUp(StageConfig):
    """The config of an artifact that a test made by hand."""

    stage = "made_up"
    name: str


def train_bpe(extra: int = 60, *, tools: bool = False) -> tokenizers.Tokenizer:
    """A byte-level BPE with a few merges, made in milliseconds."""
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = list(special_tokens(tools=tools))
    size = len(specials) + len(alphabet) + extra
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXT, trainer)
    return bpe


@pytest.fixture
def bpe() -> tokenizers.Tokenizer:
    return train_bpe()


@pytest.fixture
def renderer(bpe: tokenizers.Tokenizer, tmp_path: Path) -> Renderer:
    """Of our own protocol."""
    save_tokenizer(bpe, tmp_path / "tokenizer")
    return load_renderer(tmp_path / "tokenizer")


@pytest.fixture
def tool_renderer(tmp_path: Path) -> Renderer:
    """Of our own protocol with tools; its folder is `tmp_path / "with_tools"`."""
    save_tokenizer(train_bpe(tools=True), tmp_path / "with_tools", tools=True)
    return load_renderer(tmp_path / "with_tools")


def conversation(number: int) -> list[dict[str, str]]:
    """A question with its one right answer."""
    section = ("libs", "doc", "perl")[number % 3]
    question = {"role": "user", "content": f"section: {section}\npackage: p{number}"}
    return [question, {"role": "assistant", "content": f'{{"section": "{section}"}}'}]


PAD = 63


def segments(documents: Sequence[Sequence[int]], first: int = 0) -> Segments:
    """Documents, numbered from `first`, as a packing takes them."""
    ids = np.array([token for document in documents for token in document], np.uint16)
    lengths = np.array([len(document) for document in documents], np.int64)
    return Segments.whole(ids, lengths, np.arange(first, first + len(documents)))


def write_shards(
    folder: Path,
    documents: Sequence[Sequence[int]],
    validation: Sequence[Sequence[int]],
    *,
    max_seq_len: int = 4,
    rows_per_shard: int = 2,
    best_fit: bool = False,
) -> RowWriter:
    """Shards of these documents as they are, with their index; the writer of the training rows comes back, closed."""
    packing: Packing = Concatenated(max_seq_len, "uint16")
    if best_fit:
        packing = BestFit(max_seq_len, "uint16", pad_id=PAD, window_rows=999)
    train = RowWriter(folder, (f"train-{n}.bin" for n in range(999)), packing, rows_per_shard=rows_per_shard)
    train.write(segments(documents))
    held_out = RowWriter(folder, iter(["validation.bin"]), Concatenated(max_seq_len, "uint16"), rows_per_shard=9**9)
    held_out.write(segments(validation))
    tokens = sum(map(len, documents)) - len(packing.tail.ids)
    index = Index(
        max_seq_len=max_seq_len,
        dtype="uint16",
        packing="best_fit" if best_fit else "concatenate",
        pad_id=PAD,
        shards=train.close(),
        validation=held_out.close()[0],
        tokens_by_source={},
        padding_tokens=sum(shard.rows for shard in train.shards) * max_seq_len - tokens,
        tail_tokens=len(packing.tail.ids),
        validation_tail_tokens=0,
        cuts=Cuts.model_validate(dict.fromkeys(Cuts.model_fields, 0)),
    )
    (folder / INDEX).write_text(index.model_dump_json())
    return train


@pytest.fixture(scope="session")
def made_shards() -> Callable[..., RowWriter]:
    return write_shards


@pytest.fixture
def base(tmp_path: Path) -> Checkpoint:
    """A sealed base checkpoint, random but always the same."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path / "base"
    protocol = save_tokenizer(train_bpe(), folder)
    vocab_size = train_bpe().get_vocab_size()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=MAX_SEQ_LEN,
            tie_word_embeddings=True,
            bos_token_id=protocol.bos_id,
            pad_token_id=protocol.pad_id,
            eos_token_id=protocol.stop_id,
        )
    )
    model.save_pretrained(folder)
    return Checkpoint(
        path=folder,
        role="base",
        parameters=model.num_parameters(),
        max_seq_len=MAX_SEQ_LEN,
        protocol_digest=protocol.digest,
        steps=0,
        tokens_seen=0,
        final_loss=0.0,
    ).seal(MadeUp(name="base"))


@pytest.fixture
def sft(base: Checkpoint) -> Checkpoint:
    """The same weights, one stage further."""
    folder = base.path.with_name("sft")
    folder.mkdir()
    for name in base.manifest.files:
        (folder / name).write_bytes((base.path / name).read_bytes())
    return Checkpoint(path=folder, **{**base.facts(), "role": "sft"}).seal(MadeUp(name="sft"))


@pytest.fixture
def demonstrations(tmp_path: Path) -> Demonstrations:
    """48 conversations to train on and 6 to watch."""
    folder = tmp_path / "demonstrations"
    folder.mkdir()
    rows = [{"id": f"d{n}", "source": "made-up", "messages": conversation(n)} for n in range(54)]
    for name, part in (("train", rows[:48]), ("dev", rows[48:])):
        (folder / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in part))
    return Demonstrations(path=folder, train_rows=48, dev_rows=6, dropped={}, suites_digest="0").seal(MadeUp(name="d"))


@pytest.fixture
def comparisons(tmp_path: Path) -> Comparisons:
    """32 pairs to train on and 8 to watch; the terse answer wins."""
    folder = tmp_path / "comparisons"
    folder.mkdir()
    rows = []
    for number in range(40):
        question, answer = conversation(number)
        chatty = {"role": "assistant", "content": f"Sure: {answer['content']}"}
        rows.append({"id": f"c{number}", "prompt": [question], "chosen": [answer], "rejected": [chatty]})
    for name, part in (("train", rows[:32]), ("heldout", rows[32:])):
        (folder / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in part))
    return Comparisons(
        path=folder, train_pairs=32, heldout_pairs=8, dropped={}, length_alone_predicts=1.0, suites_digest="0"
    ).seal(MadeUp(name="c"))


@pytest.fixture
def user() -> Callable[..., list[dict[str, str]]]:
    """A conversation of one question."""
    return lambda text="Name a city.": [{"role": "user", "content": text}]


MakeReport = Callable[..., EvalReport]


def make_answer(
    number: int, *, mode: str = "greedy", correct: bool | None = True, terse: bool = True, stopped: bool = True
) -> Item:
    """The record of one contract item; correct=None is one that could not be measured."""
    known = correct is not None
    grades = {"correct": correct, "terse": terse, "exact": correct and terse, "stopped": stopped}
    return Item(
        kind="contract",
        suite="contract",
        id=f"item-{number}",
        mode=mode,
        prompt_digest=f"{number}",
        answer="{}",
        score=float(correct) if known else None,
        grades={name: float(grade) if known else None for name, grade in grades.items()},
        tokens=3,
        log_probability=-1.0 if known else None,
        unmeasured=None if known else "logits_not_finite",
    )


def make_document(number: int, bits: float | None, source: str = "sea", *, bytes: int = 100) -> Item:
    """The record of one validation document; bits=None is one that could not be measured."""
    log_probability = None if bits is None else -bits * math.log(2)
    name = {"source": source, "id": f"d{number}", "prompt_digest": f"{source}-{number}"}
    return next_token.record(**name, tokens=9, bytes=bytes, log_probability=log_probability)


@pytest.fixture
def document() -> Callable[..., Item]:
    return make_document


@pytest.fixture
def answer() -> Callable[..., Item]:
    return make_answer


@pytest.fixture
def make_report(tmp_path: Path) -> MakeReport:
    """A sealed report on these items, as `evaluate` would leave it."""

    def make(
        items: Sequence[Item],
        *,
        checkpoint: str = "c" * 64,
        suites: str = "s" * 64,
        name: str = "",
        earlier: Sequence[EvalReport] = (),
        **facts: object,
    ) -> EvalReport:
        folder = tmp_path / f"report-{name or checkpoint[:8]}-{suites[:4]}"
        folder.mkdir()
        write_items(folder, items)
        asked = {item.suite for item in items} - {next_token.BITS}
        clean = {suite: Contamination(items=1, checked=1, contaminated=0, ngram_words=8) for suite in asked}
        facts = {"contamination": clean, **facts}
        return EvalReport(
            path=folder,
            checkpoint_digest=checkpoint,
            protocol_digest="p",
            suites_digest=suites,
            scores=scores(measured(items), confidence=0.95),
            baselines={"contract.majority_answer": 0.24},
            **facts,
        ).seal(MadeUp(name=folder.name), *earlier)

    return make


@pytest.fixture
def held_out(tmp_path: Path) -> tuple[Suites, Corpus]:
    """Twelve contract items of at most 40 tokens, and a corpus of two sources with three validation documents each."""
    suites_dir, corpus_dir = tmp_path / "suites", tmp_path / "corpus"
    suites_dir.mkdir()
    corpus_dir.mkdir()
    items = [
        {"id": f"t{n}", "messages": conversation(n)[:1], "field": "section", "value": ("libs", "doc", "perl")[n % 3]}
        for n in range(12)
    ]
    write_rows(suites_dir / "contract.jsonl", items)
    suites = Suites(path=suites_dir, items={"contract": 12}, baselines={"contract.majority_answer": 0.333333})
    suites = suites.seal(MadeUp(name="suites"))
    words = ["record", "package", "section", "of", "the", "naïve", "as", "JSON"]
    texts = [" ".join(words[(n * k) % 8] for k in range(10 + 5 * n)) for n in range(26)]
    rows = [{"id": f"d{n}", "source": ("sea", "land")[n % 2], "text": text} for n, text in enumerate(texts)]
    write_rows(corpus_dir / "train.jsonl", rows[6:])
    write_rows(corpus_dir / "validation.jsonl", rows[:6])
    counts = SourceCount(licence="CC0-1.0", read=13, kept=13, kept_bytes=999)
    corpus = Corpus(
        path=corpus_dir,
        train_documents=20,
        validation_documents=6,
        sources={"sea": counts, "land": counts},
        suites_digest=suites.digest,
    )
    return suites, corpus.seal(MadeUp(name="corpus"), suites)
