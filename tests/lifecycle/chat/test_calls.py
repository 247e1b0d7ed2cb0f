"""Our own protocol with tools: a call is something the assistant says, a result something it is told."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError
from transformers import AutoTokenizer

from lifecycle.chat import examples, golden, parity
from lifecycle.chat.calls import as_message
from lifecycle.chat.protocol import SPECIAL_TOKENS, TEMPLATE, load_tokenizer, special_tokens
from lifecycle.chat.render import Renderer, load_renderer
from lifecycle.chat.structure import Unrenderable, for_template

TOKENS = special_tokens(tools=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAME = TEXT.filter(bool)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)


def called(arguments: str, *, name: str = "look_up", number: int = 0) -> dict:
    return {"id": f"call{number:05}", "type": "function", "function": {"name": name, "arguments": arguments}}


def told(content: str, number: int = 0) -> dict:
    return {"role": "tool", "tool_call_id": f"call{number:05}", "content": content}


LOOKED_UP = [
    {"role": "user", "content": "What?"},
    {"role": "assistant", "content": None, "tool_calls": [called('{"n":1}'), called("{}", number=1)]},
    told("7"),
    told("", 1),
    {"role": "assistant", "content": "It is 7."},
]


@st.composite
def conversations(draw) -> list[dict]:
    """Users, calls with and without text beside them, a result for each, and an answer or one more call at the end."""
    turns = [{"role": "system", "content": draw(TEXT)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns.append({"role": "user", "content": draw(TEXT)})
        for _ in range(draw(st.integers(0, 2))):
            dumped = st.dictionaries(TEXT, VALUE, max_size=3).map(json.dumps)
            calls = [
                called(text, name=draw(NAME), number=n) for n, text in enumerate(draw(st.lists(dumped, max_size=2)))
            ]
            if calls:
                content = draw(st.none() | TEXT)
                turns.append({"role": "assistant", "content": content, "tool_calls": calls})
                turns += [told(draw(TEXT), number) for number in range(len(calls))]
        turns.append({"role": "assistant", "content": draw(TEXT)})
    return turns


@pytest.fixture
def wrapped(tool_renderer, tmp_path):
    return AutoTokenizer.from_pretrained(tmp_path / "with_tools")


def names(renderer: Renderer, messages: list[dict]) -> list[str]:
    """Special tokens by name, other text joined; what is supervised in brackets."""
    parts: list[tuple[str, bool]] = []
    rendered = renderer.render(messages)
    for token, mask in zip(rendered.ids, rendered.assistant_mask, strict=True):
        text = renderer.tokenizer.decode([token], skip_special_tokens=False)
        if text not in TOKENS and parts and parts[-1][0] not in TOKENS and parts[-1][1] == bool(mask):
            parts[-1] = (parts[-1][0] + text, bool(mask))
        else:
            parts.append((text, bool(mask)))
    return [f"[{text}]" if mask else text for text, mask in parts]


def test_calls_are_supervised_as_canonical_json_and_results_are_not(tool_renderer):
    assert names(tool_renderer, LOOKED_UP) == [
        *("<|bos|>", "<|user|>", "What?", "<|end|>"),
        *("<|assistant|>", "[<|call|>]", '[{"name": "look_up", "arguments": {"n": 1}}]'),
        *("[<|call|>]", '[{"name": "look_up", "arguments": {}}]', "[<|end|>]"),
        *("<|tool|>", "7", "<|end|>", "<|tool|>", "<|end|>"),
        *("<|assistant|>", "[It is 7.]", "[<|end|>]"),
    ]
    beside = [LOOKED_UP[0], {"role": "assistant", "content": "Wait.", "tool_calls": [called("{}")]}]
    assert names(tool_renderer, beside)[5:] == [
        *("[Wait.]", "[<|call|>]", '[{"name": "look_up", "arguments": {}}]', "[<|end|>]")
    ]


def test_tokens_for_tools_come_behind_the_others_which_keep_their_ids(tool_renderer, tmp_path):
    ids = [tool_renderer.tokenizer.token_to_id(token) for token in (*SPECIAL_TOKENS, "<|tool|>", "<|call|>")]
    assert ids == [0, 1, 2, 3, 4, 5, 6, 7]
    protocol = tool_renderer.protocol
    assert (protocol.bos_id, protocol.pad_id, protocol.stop_id) == (0, 1, 2)
    loaded = load_tokenizer(tmp_path / "with_tools")
    assert loaded.encode("<|tool|><|call|>").ids == [6, 7]


def test_a_question_is_rendered_alike_with_and_without_tools(renderer, tool_renderer):
    messages = [*LOOKED_UP[:1], LOOKED_UP[-1]]
    plain, tools = renderer.render(messages), tool_renderer.render(messages)
    assert (plain.ids[:2], plain.ids[-1], plain.assistant_mask) == (tools.ids[:2], tools.ids[-1], tools.assistant_mask)
    assert renderer.structure.text(messages) == tool_renderer.structure.text(messages)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=conversations())
def test_every_law_holds_for_calls_and_the_template_gives_the_same_ids(tool_renderer, wrapped, messages):
    rendered = tool_renderer.render(messages)
    parity.check(tool_renderer, messages, rendered, row="r1")
    if tool_renderer.typed(messages):
        return
    given = for_template(messages).messages
    whole = wrapped.apply_chat_template(given, return_dict=True, return_assistant_tokens_mask=True)
    assert rendered.ids == whole["input_ids"]
    if tool_renderer.structure.text(messages).isascii():  # transformers loses count of split bytes
        assert rendered.assistant_mask == whole["assistant_masks"]
    for at in (n for n, message in enumerate(messages) if message["role"] == "assistant"):
        prompt = tool_renderer.render(messages[:at], generation_prompt=True).ids
        assert prompt == wrapped.apply_chat_template(given[:at], add_generation_prompt=True)["input_ids"]
        assert rendered.ids[: len(prompt)] == prompt, "also behind a tool's result"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(typed=st.lists(st.sampled_from([*TOKENS, "a", " ", '"'])).map("".join))
def test_a_token_typed_by_a_user_a_tool_or_a_model_stays_text(tool_renderer, typed):
    messages = [
        {"role": "user", "content": typed},
        {"role": "assistant", "content": typed, "tool_calls": [called(json.dumps({typed: typed}), name=f"f{typed}")]},
        told(typed),
        {"role": "assistant", "content": typed},
    ]
    rendered = tool_renderer.render(messages)
    parity.check(tool_renderer, messages, rendered, row="r1")
    specials = [TOKENS[token] for token in rendered.ids if token < len(TOKENS)]
    turn = ["<|assistant|>", "<|call|>", "<|end|>", "<|tool|>", "<|end|>", "<|assistant|>", "<|end|>"]
    assert specials == ["<|bos|>", "<|user|>", "<|end|>", *turn]


def test_the_golden_conversations_have_a_call_and_a_result(tool_renderer, tmp_path):
    sealed = golden.read(tmp_path / "with_tools")
    calls = [row for row in sealed if any("tool_calls" in message for message in row.messages)]
    assert len(sealed) == len(golden.CONVERSATIONS) + len(golden.TOOL_CONVERSATIONS)
    assert [token for token in calls[0].tokens if token in ("<|call|>", "<|tool|>")] == [
        *("<|call|>", "<|tool|>", "<|call|>", "<|call|>", "<|tool|>", "<|tool|>")
    ]
    golden.check(load_renderer(tmp_path / "with_tools"), tmp_path / "with_tools")


def test_without_the_option_such_rows_are_refused_and_counted(renderer):
    rows = [
        {"id": "calls", "source": "a", "messages": LOOKED_UP},
        {"id": "told", "source": "a", "messages": [LOOKED_UP[0], told("7"), LOOKED_UP[-1]]},
        {"id": "plain", "source": "a", "messages": [LOOKED_UP[0], LOOKED_UP[-1]]},
    ]
    found = examples.demonstrations(renderer, rows, max_seq_len=99)
    assert found.dropped == {"tool_calls_not_in_protocol": 1, "role_not_in_protocol": 1}
    assert len(found.rows) == 1
    assert "tool" not in TEMPLATE.read_text()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=conversations())
def test_what_a_model_said_is_read_back_as_the_message_with_the_same_ids(tool_renderer, messages):
    for at in (n for n, message in enumerate(messages) if message["role"] == "assistant"):
        prompt = tool_renderer.render(messages[:at], generation_prompt=True).ids
        whole = tool_renderer.render(messages[: at + 1]).ids
        read = as_message(tool_renderer, whole[len(prompt) : -1])
        assert len(read.get("tool_calls", ())) == len(messages[at].get("tool_calls", ()))
        assert tool_renderer.render([*messages[:at], read]).ids == whole


@pytest.mark.parametrize(
    "said", ["{}", '{"name": "f"}', '{"name":"f", "arguments": {}}', '{"name": "f", "arguments": []}', "[", ""]
)
def test_a_call_that_the_protocol_would_write_otherwise_stays_text(tool_renderer, said):
    ids = tool_renderer.tokenizer.encode(f"Wait.<|call|>{said}").ids
    assert as_message(tool_renderer, ids) == {"role": "assistant", "content": f"Wait.<|call|>{said}"}


@pytest.mark.parametrize("arguments", ["{", '{"n": NaN}', '{"n": 1e999}', '{"n": "\\ud800"}', "[" * 99_999])
def test_arguments_that_are_no_json_are_refused(tool_renderer, arguments):
    with pytest.raises(Unrenderable, match="expected JSON as the arguments of a call, found") as refused:
        tool_renderer.render([LOOKED_UP[0], {"role": "assistant", "content": None, "tool_calls": [called(arguments)]}])
    assert refused.value.reason == "call_arguments_not_json"


def test_the_template_refuses_what_it_would_write_otherwise_than_we_do(wrapped):
    with pytest.raises(TemplateError, match="arguments of a call as an object, found text"):
        wrapped.apply_chat_template(LOOKED_UP)
    typed = [LOOKED_UP[0], {"role": "assistant", "content": None, "tool_calls": [called('{"n": "<|call|>"}')]}]
    with pytest.raises(TemplateError, match=r"holds the special token <\|call\|>"):
        wrapped.apply_chat_template(for_template(typed).messages)
