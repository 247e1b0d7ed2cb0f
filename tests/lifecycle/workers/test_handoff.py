"""The hand-over to `transformers serve`, for real: a server on loopback answers as the evaluation recorded."""

import sys

import pytest
import torch
from foreign_base import POSITIONS, SPECIALS, write_base
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lifecycle.artifacts import EvalReport
from lifecycle.chat.adopt import prove
from lifecycle.chat.protocol import SPECIAL_TOKENS, protocol_of
from lifecycle.chat.render import load_renderer
from lifecycle.data.jsonl import load_rows
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
def foreign(held_out, tmp_path):
    """A random Llama with a ChatML template that was proven. It says no special token but the one that ends a turn, and
    that one wherever it would have said what it now says third in its first answer."""
    folder = write_base(tmp_path / "foreign", tied=False)
    prove(folder)
    protocol, first = protocol_of(folder), next(iter(load_rows(sealed_suite(held_out[0], "contract").path)))
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][: len(SPECIALS)] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    prompt = torch.tensor([load_renderer(folder).render(first["messages"], generation_prompt=True).ids])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    said = model.generate(prompt, max_new_tokens=NEW_TOKENS, do_sample=False)[0, prompt.shape[1] :]
    weights["lm_head.weight"][protocol.stop_id] = 1.01 * weights["lm_head.weight"][said[2]]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def report(base, held_out, tmp_path, make_report):
    """An evaluation of the base model on twelve questions, sealed."""
    return evaluated(base.path, base.max_seq_len, held_out, tmp_path, make_report)


def evaluated(folder, max_seq_len, held_out, tmp_path, make_report):
    suites, corpus = held_out
    (tmp_path / "out" / "log").mkdir(parents=True)
    job = EvaluateJob(
        out_dir=tmp_path / "out",
        scratch_dir=tmp_path / "scratch",
        config=EvaluateConfig(max_new_tokens=NEW_TOKENS),
        model=folder,
        suites=(sealed_suite(suites, "contract"),),
        train_file=corpus.train_file,
        validation_file=corpus.validation_file,
        max_seq_len=max_seq_len,
        threads=1,
    )
    evaluate(job, Recorder(tmp_path / "out" / "log"))
    made = make_report(list(handoff.read_items(tmp_path / "out")))
    return EvalReport(path=tmp_path / "out", **made.facts()).seal(job.config)


@pytest.mark.slow  # a real server takes 5 s to start
def test_a_server_answers_as_the_evaluation_recorded_and_another_record_is_a_difference(
    base, report, held_out, monkeypatch
):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody is there: questions stay on loopback
    asked = handoff.questions(load_renderer(base.path), report, held_out[0], most=50)
    assert len(asked) == 12
    forged = asked[3].record.model_copy(update={"answer": "something else", "tokens": 5})
    asked[3] = asked[3]._replace(record=forged)
    found = list(handoff.differences(base.path, asked, max_new_tokens=NEW_TOKENS))
    assert [one.what for one in found[3]] == ["answer", "tokens"]
    assert found[3][0].item == "contract/t3"
    assert found[:3] + found[4:] == [[]] * 11


@pytest.mark.slow  # the same, for a template of another house
def test_a_foreign_model_is_asked_answers_and_stops_as_evaluated(
    foreign, held_out, tmp_path, make_report, monkeypatch, capsys
):
    report = evaluated(foreign, POSITIONS, held_out, tmp_path, make_report)
    renderer = load_renderer(foreign)
    assert renderer.structure.stop == "<|im_end|>"
    asked = handoff.questions(renderer, report, held_out[0], most=12)
    lengths = {one.record.tokens for one in asked}
    assert min(lengths) < NEW_TOKENS == max(lengths), "some answers stop by themselves and some do not"
    monkeypatch.setattr(sys, "argv", ["handoff", *map(str, (foreign, report.path, held_out[0].path))])
    assert handoff.main() == 0
    assert "12 of 12 questions: prompt ids, greedy answer and stop as evaluated" in capsys.readouterr().out


def test_a_folder_with_faults_is_no_hand_over(base, report, held_out, monkeypatch, capsys):
    (base.path / "generation_config.json").unlink()
    monkeypatch.setattr(sys, "argv", ["handoff", *map(str, (base.path, report.path, held_out[0].path))])
    assert handoff.main() == handoff.DIFFERS != 0
    said = capsys.readouterr().out
    assert "the folder: expected generation_config.json, found none\n0 questions asked: mend" in said


def test_a_template_edited_on_the_way_gives_other_prompts(base, report, held_out):
    asked = handoff.questions(load_renderer(base.path), report, held_out[0], most=12)
    assert [digest(ids) for ids in handoff.prompts(base.path, asked)] == [one.record.prompt_digest for one in asked]
    template = base.path / "chat_template.jinja"
    template.write_text(template.read_text().replace("'<|assistant|>'", "'<|assistant|> '"))
    edited = [digest(ids) for ids in handoff.prompts(base.path, asked)]
    assert not set(edited) & {one.record.prompt_digest for one in asked}


def test_questions_are_the_greedy_ones_on_record_that_a_template_can_render(base, report, held_out):
    suites, _ = held_out
    asked = handoff.questions(load_renderer(base.path), report, suites, most=5)
    assert [question.record.id for question in asked] == ["t0", "t1", "t2", "t3", "t4"]
    assert {question.record.mode for question in asked} == {"greedy"}
    file = suites.file_of("contract")
    file.write_text(file.read_text().replace("section", "<|end|>", 1))
    assert [question.record.id for question in handoff.questions(load_renderer(base.path), report, suites, most=2)] == [
        "t1",
        "t2",
    ]


def test_what_a_server_would_miss_in_a_folder_is_named(base):
    renderer = load_renderer(base.path)
    assert handoff.faults(base.path, renderer) == []
    file = base.path / "generation_config.json"
    file.write_text(file.read_text().replace('"eos_token_id": 2', '"eos_token_id": 0'))
    assert handoff.faults(base.path, renderer) == ["expected the stop token 2 in generation_config.json, found 0"]
    file.unlink()
    (base.path / "chat_template.jinja").unlink()
    assert len(handoff.faults(base.path, renderer)) == 2
