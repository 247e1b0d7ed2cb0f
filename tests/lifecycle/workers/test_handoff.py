"""The hand-over to `transformers serve`, for real: a server on loopback answers as the evaluation recorded."""

import pytest
from safetensors.torch import load_file, save_file

from lifecycle.chat.protocol import SPECIAL_TOKENS
from lifecycle.evaluation.encode import digest
from lifecycle.evaluation.kinds import sealed_suite
from lifecycle.stages.evaluate import EvaluateConfig, EvaluateJob
from lifecycle.workers import handoff
from lifecycle.workers.evaluate import evaluate
from lifecycle.workers.job import Recorder

NEW_TOKENS = 6


@pytest.fixture
def base(base):
    """A model that never says a special token: a server leaves those out of what it answers."""
    weights = load_file(base.path / "model.safetensors")
    weights["model.embed_tokens.weight"][: len(SPECIAL_TOKENS)] = 0
    save_file(weights, base.path / "model.safetensors", metadata={"format": "pt"})
    return base


@pytest.fixture
def report(base, held_out, tmp_path, make_report):
    """An evaluation of the base model on twelve questions, sealed."""
    suites, corpus = held_out
    (tmp_path / "out" / "log").mkdir(parents=True)
    job = EvaluateJob(
        out_dir=tmp_path / "out",
        scratch_dir=tmp_path / "scratch",
        config=EvaluateConfig(max_new_tokens=NEW_TOKENS),
        model=base.path,
        suites=(sealed_suite(suites, "contract"),),
        train_file=corpus.train_file,
        validation_file=corpus.validation_file,
        max_seq_len=base.max_seq_len,
        threads=1,
    )
    evaluate(job, Recorder(tmp_path / "out" / "log"))
    return make_report(list(handoff.read_items(tmp_path / "out")), checkpoint=base.digest)


@pytest.mark.slow  # a real server takes 5 s to start
def test_a_server_answers_as_the_evaluation_recorded_and_another_record_is_a_difference(
    base, report, held_out, monkeypatch
):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody is there: questions stay on loopback
    asked = handoff.questions(report, held_out[0], most=50)
    assert len(asked) == 12
    forged = asked[3].record.model_copy(update={"answer": "something else", "tokens": 5})
    asked[3] = asked[3]._replace(record=forged)
    found = list(handoff.differences(base.path, asked, max_new_tokens=NEW_TOKENS))
    assert [one.what for one in found[3]] == ["answer", "tokens"]
    assert found[3][0].item == "contract/t3"
    assert found[:3] + found[4:] == [[]] * 11


def test_a_template_edited_on_the_way_gives_other_prompts(base, report, held_out):
    asked = handoff.questions(report, held_out[0], most=12)
    assert [digest(ids) for ids in handoff.prompts(base.path, asked)] == [one.record.prompt_digest for one in asked]
    template = base.path / "chat_template.jinja"
    template.write_text(template.read_text().replace("'<|assistant|>'", "'<|assistant|> '"))
    edited = [digest(ids) for ids in handoff.prompts(base.path, asked)]
    assert not set(edited) & {one.record.prompt_digest for one in asked}


def test_questions_are_the_greedy_ones_on_record_that_a_template_can_render(report, held_out):
    suites, _ = held_out
    asked = handoff.questions(report, suites, most=5)
    assert [question.record.id for question in asked] == ["t0", "t1", "t2", "t3", "t4"]
    assert {question.record.mode for question in asked} == {"greedy"}
    file = suites.file_of("contract")
    file.write_text(file.read_text().replace("section", "<|end|>", 1))
    assert [question.record.id for question in handoff.questions(report, suites, most=2)] == ["t1", "t2"]
