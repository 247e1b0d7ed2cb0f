"""Talking to a checkpoint: its ids are training's, its greedy answer is generate()'s, and what it says is text."""

import io
import json

import pytest
import torch

from lifecycle.chat.render import load_renderer
from lifecycle.errors import ContractError, InputError
from lifecycle.workers import talk
from lifecycle.workers.talk import Talk


class Screen(list):
    """What was written."""

    @property
    def text(self) -> str:
        return "".join(self)


@pytest.fixture
def talking(base):
    return Talk(base.path), Screen()


def test_the_greedy_answer_is_the_one_transformers_generates(talking):
    one, screen = talking
    one.say("ab", screen.append)
    prompt = load_renderer(one.folder).render([{"role": "user", "content": "ab"}], generation_prompt=True).ids
    tokens = one.model.generate(
        torch.tensor([prompt]), max_length=one.window, do_sample=False, eos_token_id=one.protocol.stop_id
    )[0, len(prompt) :].tolist()
    ids = tokens[: tokens.index(one.protocol.stop_id)] if one.protocol.stop_id in tokens else tokens
    assert one.messages[-1]["content"] == one.tokenizer.decode(ids, skip_special_tokens=False)


def test_a_second_turn_is_read_behind_the_first(talking):
    one, screen = talking
    for line in ("ab", "x"):
        one.say(line, screen.append)
        one.messages[-1]["content"] = "ok"  # the answers of random weights fill the window
    assert [message["content"] for message in one.messages] == ["ab", "ok", "x", "ok"]
    assert [message["role"] for message in one.messages] == ["user", "assistant"] * 2


def test_what_is_typed_behind_calls_are_their_results_and_then_the_model_goes_on(talking, tool_renderer, monkeypatch):
    one, screen = talking
    one.renderer, one.tokenizer = tool_renderer, tool_renderer.tokenizer
    call, prompts = '<|call|>{"name": "look_up", "arguments": {}}', []
    answers = [tool_renderer.tokenizer.encode(text).ids for text in (call * 2 + "<|end|>", "ok<|end|>")]
    monkeypatch.setattr(one, "window", 999)
    monkeypatch.setattr(one, "_generate", lambda prompt: prompts.append(prompt) or iter(answers[len(prompts) - 1]))
    for line in ("What?", "7", "8"):
        one.say(line, screen.append)
    assert [message["role"] for message in one.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    asked = tool_renderer.tokenizer.decode(prompts[1], skip_special_tokens=False)
    assert asked == (
        f"<|bos|><|user|>What?<|end|><|assistant|>{call * 2}<|end|><|tool|>7<|end|><|tool|>8<|end|><|assistant|>"
    )
    assert "(a tool is called: what you type next is its result)" in screen.text
    assert one.unanswered == []


def test_tools_are_defined_from_a_file_and_stay_when_the_system_text_changes(talking, tool_renderer, tmp_path):
    one, screen = talking
    tool = {"type": "function", "function": {"name": "look_up"}}
    file = tmp_path / "tools.json"
    file.write_text(json.dumps([tool]))
    one.say(f"/tools {file}", screen.append)
    assert "expected a conversation that defines no tools, which this protocol cannot show" in screen.text
    assert one.messages == []
    one.renderer, one.tokenizer = tool_renderer, tool_renderer.tokenizer
    one.say(f"/tools {file}", screen.append)
    one.say("/system Be brief.", screen.append)
    assert one.messages == [{"role": "system", "content": "Be brief.", "tools": [tool]}]
    one.say("/tools", screen.append)
    assert one.messages == [{"role": "system", "content": "Be brief."}]
    file.write_text("{}")
    one.say(f"/tools {file}", screen.append)
    assert "expected a JSON list of tools in the OpenAI schema, found none in" in screen.text
    assert one.messages == [{"role": "system", "content": "Be brief."}]


def test_tokens_are_shown_with_what_training_would_supervise(talking):
    one, screen = talking
    one.messages = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "xy"}]
    one.say("/tokens", screen.append)
    stop = one.protocol.stop_id
    assert f"[{stop}:<|end|>]" in screen.text
    assert f"[{stop}:<|end|>]" not in screen.text.split("<|assistant|>")[0]
    assert f"protocol {one.protocol.digest[:12]}" in screen.text


def test_what_does_not_fit_the_window_is_refused_and_the_conversation_goes_on(talking):
    one, screen = talking
    one.say("ab " * one.window, screen.append)
    assert f"expected at most {one.window - 1} tokens, found" in screen.text
    assert one.messages == []


@pytest.mark.parametrize("line", ["/sample", "/sample no", "/sample -1", "/sample nan", "/sample inf"])
def test_a_temperature_that_is_none_is_refused(talking, line):
    one, screen = talking
    one.say(line, screen.append)
    assert "expected a temperature above 0" in screen.text
    assert one.temperature == 0


def test_a_conversation_does_not_begin_at_a_temperature_below_zero(base):
    with pytest.raises(InputError, match=r"expected a temperature of 0 or more, found -1"):
        Talk(base.path, temperature=-1)


def test_the_same_seed_draws_the_same_answer(base):
    said = []
    for _ in range(2):
        one, screen = Talk(base.path, temperature=1.0, seed=3), Screen()
        one.say("ab", screen.append)
        said.append(screen.text)
    assert said[0] == said[1]


def test_an_answer_cannot_command_the_terminal(talking, monkeypatch):
    one, screen = talking
    escape = one.tokenizer.encode("\x1b[2J", add_special_tokens=False).ids
    monkeypatch.setattr(one, "_generate", lambda prompt: iter([*escape, one.protocol.stop_id]))
    one.say("ab", screen.append)
    assert "\x1b" not in screen.text
    assert "␛[2J" in screen.text


def test_a_line_that_ends_in_a_backslash_goes_on():
    lines = io.StringIO("one\\\ntwo\nthree")
    assert [talk.read(lines, lambda: None) for _ in range(3)] == ["one\ntwo", "three", None]


def test_a_folder_whose_tokenizer_was_changed_is_refused(base):
    file = base.path / "tokenizer.json"
    spec = json.loads(file.read_text())
    spec["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(spec))
    with pytest.raises(ContractError, match="golden conversation"):
        Talk(base.path)
