"""The evaluation in this process, on a model of 20,000 weights: every item has a record, whatever happens to it."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lifecycle.chat.protocol import load_tokenizer
from lifecycle.evaluation.items import ITEMS, Answer, Document, measured, read_items, scores
from lifecycle.stages.evaluate import EvaluateConfig, EvaluateJob
from lifecycle.workers.evaluate import evaluate, validation_texts
from lifecycle.workers.job import Recorder


@pytest.fixture
def run(base, held_out, tmp_path):
    """Evaluate into a fresh folder and return the result, the records and their bytes."""
    suites, corpus = held_out

    def run(name="out", threads=2, **settings):
        folder = tmp_path / name
        (folder / "log").mkdir(parents=True)
        job = EvaluateJob(
            out_dir=folder,
            scratch_dir=folder / "scratch",
            config=EvaluateConfig(**{"max_new_tokens": 6, **settings}),
            model=base.path,
            suites={"contract": suites.file_of("contract")},
            train_file=corpus.train_file,
            validation_file=corpus.validation_file,
            max_seq_len=base.max_seq_len,
            threads=threads,
        )
        result = evaluate(job, Recorder(folder / "log"))
        return result, list(read_items(folder)), (folder / ITEMS).read_bytes()

    return run


def test_every_item_has_a_record_in_every_mode(run, tmp_path):
    result, items, content = run()
    answers = [(item.id, item.mode) for item in items if isinstance(item, Answer)]
    assert answers == [(f"t{n}", mode) for n in range(12) for mode in ("greedy", "sampled")]
    documents = [item for item in items if isinstance(item, Document)]
    assert [(item.source, item.id) for item in documents] == [(("sea", "land")[n % 2], f"d{n}") for n in range(6)]
    assert result.items == len(items) == 30
    assert b"seconds" not in content
    timed = [json.loads(line) for line in (tmp_path / "out" / "log" / "metrics.jsonl").read_text().splitlines()]
    assert {key for row in timed for key in row if key.endswith("_seconds")} == {
        "load_seconds",
        "contract_seconds",
        "bits_per_byte_seconds",
    }


def test_bits_per_byte_of_a_random_model_is_about_that_of_guessing(run, base):
    _, items, _ = run()
    found = [item for item in items if isinstance(item, Document)]
    guessing = torch.log2(torch.tensor(float(load_tokenizer(base.path).get_vocab_size()))).item()
    assert sum(item.bits for item in found) / sum(item.tokens for item in found) == pytest.approx(guessing, rel=0.05)
    assert all(item.tokens < item.bytes for item in found)


def test_threads_and_batches_change_no_byte(run):
    assert run("one-thread", threads=1, batch_items=5)[2] == run("two-threads", threads=2, batch_items=5)[2]
    whole, parts = (run(f"batch-{batch}", batch_items=batch)[1] for batch in (64, 5))
    for one, other in zip(whole, parts, strict=True):
        assert one.model_copy(update={"bits": None}) == other.model_copy(update={"bits": None})
        assert one.bits == pytest.approx(other.bits, abs=2e-4)


def test_the_baselines_are_counted_on_the_same_documents(run):
    found = run()[0].baselines
    names = ["", ".land", ".sea"]
    assert set(found) == {f"{model}_bits_per_byte{name}" for model in ("unigram", "bigram") for name in names}
    assert found["bigram_bits_per_byte"] < found["unigram_bits_per_byte"]


def test_a_broken_model_is_unmeasured_on_every_item(run, base):
    file = base.path / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.0.mlp.down_proj.weight"][0, 0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    _, items, _ = run()
    assert {item.unmeasured for item in items} == {"logits_not_finite", "bits_not_finite"}
    for score in scores(measured(items), confidence=0.95).values():
        assert (score.mean, score.low, score.unmeasured) == (None, None, score.items)


def test_a_cap_on_documents_chooses_the_same_ones_every_time(base, held_out, tmp_path):
    _, corpus = held_out
    job = EvaluateJob(
        out_dir=tmp_path,
        scratch_dir=tmp_path,
        config=EvaluateConfig(validation_documents_per_source=2),
        model=base.path,
        suites={},
        train_file=corpus.train_file,
        validation_file=corpus.validation_file,
        max_seq_len=64,
        threads=1,
    )
    chosen = [[(text.source, text.id) for text in validation_texts(job, load_tokenizer(base.path))] for _ in range(2)]
    assert chosen[0] == chosen[1]
    assert sorted(source for source, _ in chosen[0]) == ["land", "land", "sea", "sea"]
    assert chosen[0] == sorted(chosen[0], key=lambda pair: pair[1])  # in the corpus's order
