"""Tasks of lm-evaluation-harness: asked by our engine, scored as its own HFLM run scores them, item by item."""

import math
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from lifecycle.chat.render import load_renderer
from lifecycle.data.jsonl import load_rows
from lifecycle.errors import InputError
from lifecycle.evaluation.kinds import sealed_suite
from lifecycle.evaluation.kinds.harness import HarnessJob, HarnessSuite
from lifecycle.evaluation.kinds.suite import Reply
from lifecycle.evaluation.metrics import measured
from lifecycle.sealing import fingerprint
from lifecycle.stages.suites import SuitesConfig, collect_suites
from lifecycle.store import Store

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.slow  # importing the harness alone takes seconds

BASE = """dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl, train: train.jsonl}}
test_split: test
training_split: train
"""
TASKS = {
    "choice": """output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: choices
doc_to_target: gold
num_fewshot: 1
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
""",
    "answer": """output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: "{{choices[gold]}}"
gen_prefix: "It is"
generation_kwargs: {until: [e, a, i], max_gen_toks: 12, do_sample: false}
filter_list:
  - {name: letter, filter: [{function: regex, regex_pattern: "([a-z])"}, {function: take_first}]}
  - {name: none, filter: [{function: take_first}]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
""",
    "word": """output_type: loglikelihood
doc_to_text: "{{q}}"
doc_to_target: " {{choices[gold]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "text": """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{q}}"
metric_list:
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
""",
}


class Nobody:
    def progress(self, *args):
        pass


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [{"q": f"section: p{n}", "choices": ["libs", "doc", "a perl"], "gold": n % 3} for n in range(6)]
    for name, part in (("rows", rows), ("train", rows[::-1])):
        (folder / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in part))
    for name, said in TASKS.items():
        (folder / f"{name}.yaml").write_text(f"{BASE}task: local_{name}\n{said}")
    monkeypatch.chdir(folder)
    return folder


def collect(suite, out_dir):
    from lifecycle.workers.harness import collect as work

    out_dir.mkdir()
    found = work(HarnessJob(out_dir=out_dir, scratch_dir=out_dir, suite=suite), Nobody())
    return suite.model_copy(update={"sealed": found.sealed}), list(load_rows(found.rows))


def local(folder, name, **settings):
    return HarnessSuite(name=name, task=f"local_{name}", path=folder / f"{name}.yaml", **settings)


def test_every_kind_of_task_scores_as_the_harness_scores_it(folder, base, tmp_path, monkeypatch):
    import datasets
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lifecycle.evaluation.encode import Encoder
    from lifecycle.evaluation.engine import Engine, Settings
    from lifecycle.evaluation.faster import faster
    from lifecycle.evaluation.journal import Alone, Journal

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    model = AutoModelForCausalLM.from_pretrained(base.path).eval()
    theirs = HFLM(
        pretrained=model, tokenizer=AutoTokenizer.from_pretrained(base.path), batch_size=4, max_length=base.max_seq_len
    )
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    encoder = Encoder(load_renderer(base.path))
    settings = Settings(
        max_new_tokens=8, temperature=1.0, seed=0, context_tokens=0, max_seq_len=base.max_seq_len, batch_items=4
    )
    compared = 0
    for name in TASKS:
        suite, rows = collect(local(folder, name), tmp_path / name)
        with ThreadPoolExecutor(1) as pool:
            engine = Engine(faster(model), base.path, encoder, settings, Journal(tmp_path / "j" / name, Alone()), pool)
            replies = engine.replies([(row["id"], suite.asks(row)) for row in rows], lambda done, total: None)
        items = [item for row, said in zip(rows, replies, strict=True) for item in suite.graded(row, said)]
        expected = lm_eval.simple_evaluate(
            model=theirs, tasks=[f"local_{name}"], task_manager=manager, apply_chat_template=True, bootstrap_iters=0
        )["samples"][f"local_{name}"]
        by_key = {(sample["doc_id"], sample["filter"]): sample for sample in expected}
        for item in items:
            for grade, value in item.grades.items():
                metric, _, filtered = grade.partition(":")
                sample = by_key[int(item.id), filtered or "none"]
                if metric == "log_likelihood":
                    right = sample["perplexity"]
                elif metric == "bits_per_byte":
                    right = -sample[metric][0] / math.log(2) / sample[metric][1]
                else:
                    right = sample[metric]
                assert value == pytest.approx(right, abs=1e-3), (name, item.id, grade)
                compared += 1
        assert all(evidence.items == 6 for evidence in measured(items).values())
    assert compared >= 40


def test_choices_are_asked_as_turns_and_guessing_is_known(folder, tmp_path):
    suite, rows = collect(local(folder, "choice"), tmp_path / "c")
    first = suite.asks(rows[0])
    assert [ask.continuation for ask in first] == ["libs", "doc", "a perl"]
    assert [turn["role"] for turn in first[0].prompt] == ["user", "assistant", "user"]  # one example before it
    assert rows[0]["messages"] == [
        {"role": "user", "content": "section: p0"}
    ]  # training data is cleaned of its own words
    assert suite.baselines(rows) == {"random_accuracy": 0.333333}


def test_the_stage_seals_requests_and_a_changed_row_is_another_suite(folder, tmp_path):
    store = Store(tmp_path / "store")

    def made():
        return store.make(collect_suites, SuitesConfig(suites=(local(folder, "choice"),)))

    suites = made().artifact
    suite = sealed_suite(suites, "choice")
    assert suites.items == {"choice": 6}
    assert suite.sealed.tasks["local_choice"]["doc_to_choice"] == "choices"
    assert [ask.continuation for ask in suite.asks(next(load_rows(suite.path)))] == ["libs", "doc", "a perl"]
    assert made().reused
    (folder / "rows.jsonl").write_bytes((folder / "train.jsonl").read_bytes())
    config = SuitesConfig(suites=(local(folder, "choice"),))
    assert fingerprint(config, []) != suites.fingerprint


def test_a_task_without_its_data_or_without_a_name_in_the_harness_says_what_to_do(tmp_path):
    for task, message in (("no_such_task", "expected a task of lm-evaluation-harness"), ("arc_easy", "Face cache")):
        with pytest.raises(InputError, match=message):
            Store(tmp_path).make(collect_suites, SuitesConfig(suites=(HarnessSuite(name="x", task=task),)))


def test_a_task_that_ships_is_asked_by_name_with_its_own_code(tmp_path, monkeypatch):
    import datasets

    rows = [
        {
            "ind": n,
            "activity_label": "Cleaning",
            "ctx_a": "A man washes",
            "ctx_b": "he",
            "ctx": "A man washes. he",
            "endings": ["sings [title] well.", "dries it.", "flies.", "sleeps."],
            "label": str(n % 4),
            "split": "val",
        }
        for n in range(4)
    ]
    splits = {name: datasets.Dataset.from_list(rows) for name in ("train", "validation")}
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: datasets.DatasetDict(splits))
    suite, found = collect(HarnessSuite(name="h", task="hellaswag"), tmp_path / "h")
    assert [ask.continuation for ask in suite.asks(found[0])] == ["sings. well.", "dries it.", "flies.", "sleeps."]
    replies = [[Reply("likelihood", "d", text=t, log_probability=-n, tokens=1)] for n, t in enumerate("abcd")]
    graded = [item for row in found for item in suite.graded(row, replies)]
    assert [item.grades["acc"] for item in graded] == [1, 0, 0, 0]


def test_what_has_no_number_is_unmeasured_with_a_reason(folder, tmp_path):
    suite, rows = collect(local(folder, "choice"), tmp_path / "c")
    good = [[Reply("likelihood", "d", text=c, log_probability=-1.0 - n, tokens=1)] for n, c in enumerate("abc")]
    bad = [*good[:2], [Reply("likelihood", "d", fault="logits_not_finite")]]
    items = [*suite.graded(rows[0], good), *suite.graded(rows[1], bad)]
    assert [item.unmeasured for item in items] == [None, "logits_not_finite"]
    assert measured(items)["choice.acc"].unmeasured == 1


def test_metrics_of_a_whole_corpus_are_named_as_left_out(folder, tmp_path):
    suite, _ = collect(local(folder, "text"), tmp_path / "t")
    assert suite.sealed.left_out == {"local_text": ("word_perplexity",)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"{{q}}"', '"{{ q.__class__.__mro__ }}"', "unsafe"),
        ("metric: acc,", "metric: made_up,", "metric of"),
        ("num_fewshot: 1", "num_fewshot: 1\nfewshot_config: {sampler: made_up}", "sampler"),
    ],
)
def test_templates_and_names_that_reach_out_are_refused(folder, tmp_path, old, new, message):
    path = folder / "choice.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(Exception, match=message):
        collect(local(folder, "choice"), tmp_path / "x")


def test_sampled_answers_are_refused(folder, tmp_path):
    path = folder / "answer.yaml"
    path.write_text(path.read_text().replace("do_sample: false", "do_sample: true, top_p: 0.9"))
    with pytest.raises(InputError, match="greedy answers"):
        collect(local(folder, "answer"), tmp_path / "x")


def test_a_template_that_does_not_end_is_stopped(folder, tmp_path, monkeypatch):
    from lifecycle.evaluation import harness

    monkeypatch.setattr(harness, "RENDER_SECONDS", 1)
    path = folder / "choice.yaml"
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    path.write_text(
        path.read_text().replace('"{{q}}"', f"\"{{% if q != 'section: p0' %}}{loop}{{% endif %}}{{{{q}}}}\"")
    )
    with pytest.raises(InputError, match="within 1 s"):
        collect(local(folder, "choice"), tmp_path / "x")
