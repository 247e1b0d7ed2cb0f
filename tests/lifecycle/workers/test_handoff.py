"""The hand-over to `transformers serve`, for real: a server on loopback answers as the evaluation recorded."""

import sys
from contextlib import nullcontext

import pytest
import torch
from foreign_base import POSITIONS, SPECIALS, write_base
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from lifecycle.artifacts import EvalReport
from lifecycle.chat.adopt import prove
from lifecycle.chat.definitions import together
from lifecycle.chat.examples import Demonstration
from lifecycle.chat.folder import save_tokenizer
from lifecycle.chat.protocol import SPECIAL_TOKENS, protocol_of
from lifecycle.chat.render import load_renderer
from lifecycle.data.jsonl import load_rows, write_rows
from lifecycle.evaluation.encode import digest
from lifecycle.evaluation.kinds import sealed_suite
from lifecycle.stages.evaluate import EvaluateConfig, EvaluateJob
from lifecycle.training.conversations import padded
from lifecycle.workers import handoff
from lifecycle.workers.evaluate import evaluate
from lifecycle.workers.job import Recorder
from tests.lifecycle.conftest import train_bpe

NEW_TOKENS = 6


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CALLED = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"n": 1}'}}
WINDOW = 192


@pytest.fixture
def base(base):
    """A model that never says a special token: a server leaves those out of what it answers."""
    weights = load_file(base.path / "model.safetensors")
    weights["model.embed_tokens.weight"][: len(SPECIAL_TOKENS)] = 0
    save_file(weights, base.path / "model.safetensors", metadata={"format": "pt"})
    return base


@pytest.fixture
def caller(held_out, tmp_path):
    """A model of our protocol with tools that was taught to say a text and to call the tool its questions define."""
    folder = tmp_path / "caller"
    save_tokenizer(train_bpe(tools=True), folder, tools=True)
    renderer, file = load_renderer(folder), held_out[0].file_of("contract")
    rows = [{**row, "messages": together(row["messages"], [TOOL])} for row in load_rows(file)]
    write_rows(file, rows)
    answer = {"role": "assistant", "content": " Wait", "tool_calls": [CALLED]}
    taught = [Demonstration("", *renderer.render([*row["messages"], answer])) for row in rows]
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    size = {"vocab_size": train_bpe(tools=True).get_vocab_size(), "max_position_embeddings": WINDOW}
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    model = LlamaForCausalLM(LlamaConfig(**shape, **size, **ids))
    optimizer, inputs = torch.optim.AdamW(model.parameters(), lr=3e-3), padded(taught[:6], pad_id=1)
    for _ in range(150):
        loss = model(**inputs, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.02
    model.save_pretrained(folder)
    return folder


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


def evaluated(folder, max_seq_len, held_out, tmp_path, make_report, *, new_tokens=NEW_TOKENS):
    suites, corpus = held_out
    (tmp_path / "out" / "log").mkdir(parents=True)
    job = EvaluateJob(
        out_dir=tmp_path / "out",
        scratch_dir=tmp_path / "scratch",
        config=EvaluateConfig(max_new_tokens=new_tokens),
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
def test_a_server_calls_the_tools_that_the_evaluation_recorded_and_another_record_is_a_difference(
    caller, held_out, tmp_path, make_report, monkeypatch
):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody is there: questions stay on loopback
    report = evaluated(caller, WINDOW, held_out, tmp_path, make_report, new_tokens=50)
    asked = handoff.questions(load_renderer(caller), report, held_out[0], most=50)
    assert {one.record.answer for one in asked} == {' Wait<|call|>{"name": "look", "arguments": {"n": 1}}'}
    assert len(asked) == 12
    assert all(one.record.tokens < 50 for one in asked), "each stops by itself"
    forged = asked[3].record.model_copy(update={"answer": asked[3].record.answer.replace("1", "2"), "tokens": 5})
    asked[3] = asked[3]._replace(record=forged)
    found = list(handoff.differences(caller, asked, max_new_tokens=50))
    assert [one.what for one in found[3]] == ["tokens", "answer"]
    assert found[3][0].item == "contract/t3"
    assert found[:3] + found[4:] == [[]] * 11


SAID = 'Wait.<|call|>{"name": "look", "arguments": {"n": 1}}'


@pytest.mark.parametrize(
    ("record", "served", "what"),
    [
        (SAID, {"content": "Wait.", "tool_calls": [CALLED]}, []),
        (SAID, {"content": "Wait.", "tool_calls": [CALLED, CALLED]}, ["answer"]),
        (SAID, {"content": "", "tool_calls": [CALLED]}, ["answer"]),
        (SAID, {"content": 'Wait.{"name": "look", "arguments": {"n": 1}}'}, ["unmeasured"]),  # no parser
        (SAID, {"content": 'Wait{"name": "look", "arguments": {"n": 1}}'}, ["answer"]),
        ("Wait.", {"content": "Wait."}, []),
        ("Wait.", {"content": "Wait"}, ["answer"]),
        (
            'Wait.<|call|>{"name": "look", "arguments": {"n"',
            {"content": "Wait.", "tool_calls": [{"function": {"name": "look", "arguments": '{"n"'}}]},
            ["unmeasured"],
        ),
    ],
)
def test_a_call_is_compared_as_the_protocol_writes_it_and_what_a_server_hides_is_unmeasured(
    tool_renderer, answer, tmp_path, monkeypatch, record, served, what
):
    messages = [{"role": "user", "content": "What?"}]
    ids = tool_renderer.render(messages, generation_prompt=True).ids
    item = answer(0).model_copy(update={"answer": record, "prompt_digest": digest(ids), "tokens": 9})
    usage = {"prompt_tokens": len(ids), "completion_tokens": 9}
    monkeypatch.setattr(handoff, "serving", lambda folder: nullcontext("http://nobody"))
    monkeypatch.setattr(handoff, "_post", lambda *_: {"choices": [{"message": served}], "usage": usage})
    asked = [handoff.Question(messages, item)]
    (found,) = handoff.differences(tmp_path / "with_tools", asked, max_new_tokens=9)
    assert [one.what for one in found] == what


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
