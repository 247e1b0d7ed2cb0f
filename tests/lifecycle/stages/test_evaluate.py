"""What the stage refuses before anything heavy starts, what makes two reports comparable, and one evaluation whole."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from pyarrow.parquet import read_table

from lifecycle.artifacts import Checkpoint, Demonstrations, EvalReport, GateDecision
from lifecycle.data.jsonl import load_rows, write_rows
from lifecycle.errors import ContractError, DamagedArtifact
from lifecycle.evaluation.items import read_items, write_items
from lifecycle.evaluation.kinds.multiple_choice import MultipleChoiceSuite
from lifecycle.evaluation.metrics import measured, scores
from lifecycle.sealing import StageConfig
from lifecycle.stages import evaluate as stage
from lifecycle.stages.evaluate import EvaluateConfig, Evaluated, chosen, chosen_documents, evaluate
from lifecycle.stages.gate import Floor, GateConfig, decide_gate
from lifecycle.stages.suites import SuitesConfig, collect_suites
from lifecycle.store import Store

CONFIG = EvaluateConfig(max_new_tokens=6)


class Again(StageConfig):
    stage = "again"
    name: str = ""


@pytest.fixture
def without_worker(monkeypatch, answer, document):
    """The worker replaced by one that finds right answers; it passes over the items in the set that comes back."""
    passed_over = set()

    def work(worker, job, result, *, ranks, threads, on_accelerators):
        rows = [row for suite in job.suites for row in chosen(job.config, suite.name, list(load_rows(suite.path)))]
        items = [answer(n).model_copy(update={"id": row["id"]}) for n, row in enumerate(rows)]
        texts = [] if job.validation_file is None else list(load_rows(job.validation_file))
        documents = chosen_documents(job.config, texts)
        items += [document(int(row["id"][1:]), 200.0 + n, row["source"]) for n, row in enumerate(documents)]
        write_items(job.out_dir, [item for item in items if item.id not in passed_over])
        return Evaluated(items=2, baselines={"bigram_bits_per_byte": 2.0})

    monkeypatch.setattr(stage, "run_worker", work)
    return passed_over


def report(config, base, held_out, tmp_path, name):
    (tmp_path / name).mkdir()
    return evaluate(config, base, *held_out, out_dir=tmp_path / name)


@pytest.mark.usefixtures("without_worker")
def test_the_report_scores_the_records_and_names_what_was_measured(base, held_out, tmp_path):
    made = report(CONFIG, base, held_out, tmp_path, "one")
    assert made.scores == scores(measured(read_items(made.path)), confidence=0.95)
    assert made.scores["contract.greedy_correct"].mean == 1.0
    assert made.baselines == {"contract.majority_answer": 0.333333, "bigram_bits_per_byte": 2.0}
    assert (made.checkpoint_digest, made.protocol_digest) == (base.digest, base.protocol_digest)
    assert EvalReport.load(made.path) == made


@pytest.mark.usefixtures("without_worker")
def test_reports_are_comparable_when_the_same_was_asked_in_the_same_way(base, held_out, tmp_path):
    first = report(CONFIG, base, held_out, tmp_path, "first")
    shown = {"confidence": 0.9, "batch_items": 3, "threads": 1, "ranks": 2, "items_per_suite": 12}
    shown_otherwise = CONFIG.model_copy(update=shown)
    assert report(shown_otherwise, base, held_out, tmp_path, "shown").suites_digest == first.suites_digest
    for name, value in {
        "max_new_tokens": 5,
        "seed": 1,
        "sampled_temperature": 0.7,
        "context_tokens": 8,
        "validation_documents_per_source": 2,
        "items_per_suite": 11,
        "precision": "bf16",
    }.items():
        asked_otherwise = report(CONFIG.model_copy(update={name: value}), base, held_out, tmp_path, name)
        assert asked_otherwise.suites_digest != first.suites_digest, name


@pytest.mark.usefixtures("without_worker")
def test_other_validation_text_is_another_question(base, held_out, tmp_path):
    suites, corpus = held_out
    first = report(CONFIG, base, held_out, tmp_path, "first")
    (corpus.path / "manifest.json").unlink()
    file = corpus.validation_file
    file.write_bytes(file.read_bytes().replace(b"the", b"teh"))
    other = type(corpus)(path=corpus.path, **corpus.facts()).seal(Again(), suites)
    assert report(CONFIG, base, (suites, other), tmp_path, "other").suites_digest != first.suites_digest


def test_more_items_are_the_same_ones_and_others(held_out):
    """The prefix property, which looks at growing numbers of items rest on; every suite has an order of its own."""
    rows = [{"id": f"i{n}", "source": ("sea", "land")[n % 2]} for n in range(40)]
    sizes = (1, 5, 20, 40, 99)
    for choose in (lambda config: chosen(config, "quiz", rows), lambda config: chosen_documents(config, rows)):
        taken = [[row["id"] for row in choose(EvaluateConfig(items_per_suite=size))] for size in sizes]
        assert all(set(few) <= set(more) for few, more in pairwise(taken))
        assert taken[-1] == [row["id"] for row in choose(EvaluateConfig())] == [row["id"] for row in rows]
    few = EvaluateConfig(items_per_suite=5)
    assert chosen(few, "quiz", rows) != chosen(few, "other", rows) != rows[:5]
    assert chosen(EvaluateConfig(items_per_suite={"quiz": 5}), "quiz", rows) == chosen(few, "quiz", rows)
    assert len(chosen_documents(few, rows)) == 10


@pytest.mark.usefixtures("without_worker")
def test_only_a_report_on_this_checkpoint_asked_in_the_same_way_is_copied_from(base, sft, held_out, tmp_path):
    few = CONFIG.model_copy(update={"items_per_suite": 2})
    earlier = report(few, base, held_out, tmp_path, "earlier")
    (tmp_path / "again").mkdir()
    again = evaluate(CONFIG, base, *held_out, earlier, out_dir=tmp_path / "again")
    assert (again.scoring_digest, again.suites_digest == earlier.suites_digest) == (earlier.scoring_digest, False)
    assert [entry.digest for entry in again.manifest.inputs][-1] == earlier.digest
    with pytest.raises(ContractError, match="expected a report on checkpoint"):
        evaluate(CONFIG, sft, *held_out, earlier, out_dir=tmp_path / "other")
    warmer = CONFIG.model_copy(update={"sampled_temperature": 0.5})
    with pytest.raises(ContractError, match="expected an earlier report that scored as this one does"):
        evaluate(warmer, base, *held_out, earlier, out_dir=tmp_path / "warmer")


@pytest.mark.parametrize("lost", ["t3", "d1"])
def test_an_item_without_a_record_is_no_report(base, held_out, tmp_path, without_worker, lost):
    without_worker.add(lost)
    with pytest.raises(ContractError, match=f"expected a record of each of 18 items and of no other, .*{lost}"):
        report(CONFIG, base, held_out, tmp_path, "one")


@pytest.mark.usefixtures("without_worker")
def test_records_edited_after_sealing_are_not_copied(base, held_out, tmp_path, answer):
    few = CONFIG.model_copy(update={"items_per_suite": 2})
    earlier = report(few, base, held_out, tmp_path, "earlier")
    write_items(earlier.path, [*read_items(earlier.path), answer(7)])
    with pytest.raises(DamagedArtifact, match="The file changed after sealing"):
        evaluate(CONFIG, base, *held_out, earlier, out_dir=tmp_path / "again")


@pytest.mark.usefixtures("without_worker")
def test_items_that_were_trained_on_are_in_the_report(base, held_out, tmp_path):
    suites, corpus = held_out
    assert report(CONFIG, base, held_out, tmp_path, "clean").contamination["contract"].contaminated == 0
    leaked = "please copy every single word of this one leaked question now"
    items = [
        {**row, "messages": [{"role": "user", "content": f"{leaked} {row['id']}"}]}
        for row in load_rows(suites.file_of("contract"))
    ]
    write_rows(suites.file_of("contract"), items[:1])
    write_rows(corpus.train_file, [{"id": "d", "source": "sea", "text": f"We read: {leaked}."}])
    for artifact in (suites, corpus):
        (artifact.path / "manifest.json").unlink()
    suites = suites.model_copy(update={"items": {"contract": 1}}).seal(Again(name="suites"))
    corpus = corpus.model_copy(update={"suites_digest": suites.digest}).seal(Again(name="corpus"))
    found = report(CONFIG, base, (suites, corpus), tmp_path, "leaked").contamination["contract"]
    assert (found.items, found.contaminated, found.examples) == (1, 1, {"t0": "sea/d"})


def test_a_corpus_cleaned_against_other_items_is_refused(base, held_out, out_dir):
    suites, corpus = held_out
    with pytest.raises(ContractError, match="scores could be memorised"):
        evaluate(CONFIG, base, suites, corpus.model_copy(update={"suites_digest": "0" * 64}), out_dir=out_dir)


def test_an_empty_suite_is_refused(base, held_out, out_dir):
    suites, corpus = held_out
    empty = suites.model_copy(update={"items": {"contract": 0}})
    with pytest.raises(ContractError, match="expected items in every suite"):
        evaluate(CONFIG, base, empty, corpus, out_dir=out_dir)


def test_an_answer_that_may_not_fit_is_refused_before_it_is_cut(base, held_out, out_dir):
    with pytest.raises(ContractError, match=r"within max_seq_len 64, found item 't\d+' of contract with \d+ tokens"):
        evaluate(EvaluateConfig(max_new_tokens=60), base, *held_out, out_dir=out_dir)


def test_a_window_of_context_alone_is_refused(base, held_out, out_dir):
    config = EvaluateConfig(max_new_tokens=6, context_tokens=64)
    with pytest.raises(ContractError, match=r"expected evaluate\.context_tokens below max_seq_len 64, found 64"):
        evaluate(config, base, *held_out, out_dir=out_dir)


def test_a_changed_template_is_refused_with_both_digests(base, held_out, out_dir):
    template = base.path / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    (base.path / "manifest.json").unlink()
    base = Checkpoint(path=base.path, **base.facts()).seal(Again())
    with pytest.raises(ContractError, match=f"expected the chat protocol {base.protocol_digest[:12]} in .*, found"):
        evaluate(CONFIG, base, *held_out, out_dir=out_dir)


@pytest.mark.slow  # a worker imports torch and transformers: 5 to 10 s
def test_a_real_evaluation_is_the_same_twice(base, held_out, tmp_path):
    one = report(CONFIG, base, held_out, tmp_path, "one")
    two = report(CONFIG.model_copy(update={"ranks": 2}), base, held_out, tmp_path, "two")  # in two processes
    assert one.digest == two.digest
    assert one.scores["contract.greedy_correct"].items == 12
    assert one.scores["bits_per_byte"].mean is not None
    assert set(one.scores) > {"bits_per_byte.sea", "bits_per_byte.land"}
    assert not (one.path / "scratch").exists()
    assert (one.path / "log" / "progress.json").exists()


@pytest.mark.slow  # two workers import torch and transformers, the flow imports Prefect: 15 to 20 s
def test_a_second_look_evaluates_only_what_the_first_left_out_and_decides(base, held_out, tmp_path, monkeypatch):
    """The loop of the flow on a real store, a real model and the real gate. Of two choices it finds the shorter one
    more probable, which is the right one of 13 items in 20."""
    from flows import evaluate_release as flow

    words = ["libs", "section of the package record"]
    rows = [
        {
            "id": f"q{n}",
            "messages": [{"role": "user", "content": f"p{n}?"}],
            "choices": words,
            "answer": int(n % 20 > 12),
        }
        for n in range(80)
    ]
    write_rows(tmp_path / "quiz.jsonl", rows)
    store = Store(tmp_path / "store")
    quiz = MultipleChoiceSuite(name="quiz", path=tmp_path / "quiz.jsonl")
    suites = store.make(collect_suites, SuitesConfig(suites=(quiz,))).artifact
    corpus = held_out[1]
    (corpus.path / "manifest.json").unlink()
    corpus = corpus.model_copy(update={"suites_digest": suites.digest}).seal(Again(name="corpus"))
    gate = GateConfig(rules=(Floor(metric="quiz.accuracy", at_least=0.47, items=80),), looks=2)
    recipe = SimpleNamespace(evaluate=CONFIG, gate=gate)

    def make(run, config, *inputs, earlier=None, demonstrations=None, label=None):
        if isinstance(config, GateConfig):
            made.append(run.store.make(decide_gate, config, *inputs).artifact)
        else:
            made.append(run.store.make(evaluate, config, *inputs, earlier, demonstrations).artifact)
        return made[-1]

    made: list[EvalReport | GateDecision] = []
    monkeypatch.setattr(flow, "evaluate", make)
    monkeypatch.setattr(flow, "decide_gate", make)
    data = SimpleNamespace(suites=suites, text=SimpleNamespace(corpus=corpus), base=None)
    trained = SimpleNamespace(candidate=base, demonstrations=None)
    flow.looked_at(SimpleNamespace(recipe=recipe, store=store), data, trained)

    first, undecided, second, decided = made
    assert [decision.verdict for decision in (undecided, decided)] == ["INCONCLUSIVE", "PROMOTE"]
    assert [check.evaluated for check in (*undecided.checks, *decided.checks)] == [40, 80]
    assert "neither shown nor refuted; evaluate 40 more items" in undecided.checks[0].reason
    # Not evaluated again, counted twice over: records that were copied, and items the second worker took time for.
    assert (first.copied_items, second.copied_items) == (0, 46)
    asked = [set(read_table(made.path / "log" / "items_seconds.parquet")["id"].to_pylist()) for made in (first, second)]
    assert [len(ids) for ids in asked] == [46, 40]
    assert not asked[0] & asked[1]
    records = [{item.key: item for item in read_items(report.path)} for report in (first, second)]
    assert records[0].items() <= records[1].items()


def shown_rows(folder, suites, conversations, against=None):
    folder.mkdir()
    rows = [{"id": f"d{n}", "source": "made", "messages": messages} for n, messages in enumerate(conversations)]
    write_rows(folder / "train.jsonl", rows)
    facts = {"train_rows": len(rows), "dev_rows": 0, "dropped": {}, "suites_digest": against or suites.digest}
    return Demonstrations(path=folder, **facts).seal(Again(name=folder.name))


@pytest.mark.usefixtures("without_worker")
def test_without_a_corpus_suites_are_scored_and_no_text_is_held_against_them(base, held_out, tmp_path):
    suites, _ = held_out
    (tmp_path / "alone").mkdir()
    alone = evaluate(CONFIG, base, suites, out_dir=tmp_path / "alone")
    assert alone.contamination == {}
    assert [entry.kind for entry in alone.manifest.inputs] == ["Checkpoint", "Suites"]
    shown = shown_rows(
        tmp_path / "shown",
        suites,
        [[*row["messages"], {"role": "assistant", "content": "?"}] for row in load_rows(suites.file_of("contract"))][
            :1
        ],
    )
    (tmp_path / "beside").mkdir()
    beside = evaluate(CONFIG, base, suites, None, None, shown, out_dir=tmp_path / "beside")
    assert beside.contamination["contract"].items == 12, "they are looked for in what was trained on here"
    assert beside.suites_digest == alone.suites_digest
    (tmp_path / "odd").mkdir()
    other = shown_rows(tmp_path / "other", suites, [], against="0" * 64)
    with pytest.raises(ContractError, match="was decontaminated against suites 000000000000"):
        evaluate(CONFIG, base, suites, None, None, other, out_dir=tmp_path / "odd")
    assert report(CONFIG, base, held_out, tmp_path, "whole").suites_digest != alone.suites_digest
