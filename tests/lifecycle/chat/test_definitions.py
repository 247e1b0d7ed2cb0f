"""Definitions of tools: shown to the model in its system turn, never supervised, and never a way to open a turn."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError
from transformers import AutoTokenizer

from benchmarks import templates
from lifecycle.chat import adopt, examples, golden, parity
from lifecycle.chat.calls import as_message
from lifecycle.chat.definitions import apart, together
from lifecycle.chat.folder import save_tokenizer
from lifecycle.chat.probe import Template, Unprovable
from lifecycle.chat.prove import structure_of
from lifecycle.chat.render import load_renderer
from lifecycle.chat.structure import Unrenderable, for_template
from lifecycle.chat.symbolic import HOLE
from lifecycle.workers.handoff import said
from tests.lifecycle.chat.test_adopt import write_folder
from tests.lifecycle.chat.test_calls import LOOKED_UP, NAME, TEXT, TOKENS, VALUE, conversations, names
from tests.lifecycle.conftest import train_bpe

PLAIN = [LOOKED_UP[0], LOOKED_UP[-1]]
LOOK_UP = {"name": "look_up", "description": "Looks it up.", "parameters": {"type": "object", "properties": {}}}


def defined(*functions: dict) -> list[dict]:
    return [{"type": "function", "function": function} for function in functions]


FUNCTION = st.fixed_dictionaries(
    {"name": NAME},
    optional={"description": TEXT, "parameters": st.dictionaries(TEXT, VALUE, max_size=3), "strict": st.booleans()},
)
DEFINED = st.lists(FUNCTION, min_size=1, max_size=3).map(lambda functions: defined(*functions))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    save_tokenizer(train_bpe(tools=True), made := tmp_path_factory.mktemp("tools") / "tokenizer", tools=True)
    return made


@pytest.fixture(scope="module")
def wrapped(folder):
    return AutoTokenizer.from_pretrained(folder)


def test_a_definition_stands_in_the_system_turn_and_is_not_learned(folder):
    own = load_renderer(folder)
    shown = json.dumps(LOOK_UP)
    assert names(own, together(PLAIN, defined(LOOK_UP, {"name": "f"})))[:9] == [
        *("<|bos|>", "<|system|>", "<|tool|>", shown, "<|tool|>", '{"name": "f"}', "<|end|>", "<|user|>", "What?")
    ]
    system = {"role": "system", "content": "Be brief."}
    assert names(own, together([system, *PLAIN], defined(LOOK_UP)))[1:6] == [
        *("<|system|>", "Be brief.", "<|tool|>", shown, "<|end|>")
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=conversations(), tools=DEFINED)
def test_every_law_holds_behind_definitions_and_the_template_gives_the_same_ids(folder, wrapped, messages, tools):
    own, messages = load_renderer(folder), together(messages, tools)
    rendered = own.render(messages)
    parity.check(own, messages, rendered, row="r1")
    if own.typed(messages):
        return
    turns, tools = for_template(messages)
    assert rendered.ids == wrapped.apply_chat_template(turns, tools=tools)["input_ids"]
    for at in (n for n, message in enumerate(messages) if message["role"] == "assistant"):
        prompt, rest = own.render(messages[:at], generation_prompt=True).ids, len(messages) - at
        asked = wrapped.apply_chat_template(turns[:-rest], tools=tools, add_generation_prompt=True)["input_ids"]
        assert prompt == asked == rendered.ids[: len(prompt)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(typed=st.lists(st.sampled_from([*TOKENS, "a", '"']), min_size=1).map("".join))
def test_a_token_typed_into_a_definition_stays_text(folder, typed):
    own, tools = load_renderer(folder), defined({"name": typed, "description": typed, "parameters": {typed: [typed]}})
    rendered = own.render(together(PLAIN, tools))
    parity.check(own, together(PLAIN, tools), rendered, row="r1")
    assert [TOKENS[token] for token in rendered.ids if token < len(TOKENS)] == [
        *("<|bos|>", "<|system|>", "<|tool|>", "<|end|>", "<|user|>", "<|end|>", "<|assistant|>", "<|end|>")
    ]


def test_the_order_of_keys_and_what_tells_a_server_how_to_decode_make_no_other_prompt(folder, wrapped):
    turned = dict(reversed(LOOK_UP.items())) | {"strict": True}
    ids = [wrapped.apply_chat_template(PLAIN, tools=defined(one))["input_ids"] for one in (LOOK_UP, turned)]
    assert ids[0] == ids[1] == load_renderer(folder).render(together(PLAIN, defined(turned))).ids


@pytest.mark.parametrize(
    ("tool", "found"),
    [
        ({"name": "f"}, "expected tools as the OpenAI chat schema defines them"),
        ({"type": "function", "function": {"name": 7}}, "expected tools as the OpenAI chat schema defines them"),
        ({"type": "function", "function": {"name": "f", "return": {}}}, "its name, description and parameters, found"),
        ({"type": "function", "function": {"name": "<|end|>"}}, r"holds the special token <\|end\|>"),
    ],
)
def test_the_template_refuses_what_the_model_was_not_taught_to_read(wrapped, tool, found):
    with pytest.raises(TemplateError, match=found):
        wrapped.apply_chat_template(PLAIN, tools=[tool])


def test_rows_with_definitions_are_refused_by_reason_where_no_protocol_shows_them(renderer, folder):
    late = [*PLAIN, *together(PLAIN, defined(LOOK_UP))]
    for own, messages, reason in (
        (renderer, together(PLAIN, defined(LOOK_UP)), "tools_not_in_protocol"),
        (load_renderer(folder), late, "tools_not_at_the_start"),
    ):
        row = {"id": "a", "source": "s", "messages": messages}
        assert examples.demonstrations(own, [row], max_seq_len=999).dropped == {reason: 1}


def test_the_golden_conversations_hold_definitions_with_a_system_text_and_without(folder):
    sealed = [row for row in golden.read(folder) if row.messages[0].get("tools")]
    assert [row.messages[0]["content"] for row in sealed] == ["Be brief.", None]
    golden.check(load_renderer(folder), folder)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=conversations())
def test_a_server_reads_the_calls_that_were_made(folder, wrapped, messages):
    """By the `response_template` of the folder, as `transformers serve` does. A name that JSON escapes stays text."""
    own = load_renderer(folder)
    if own.typed(messages):
        return
    for at in (n for n, message in enumerate(messages) if message["role"] == "assistant"):
        prompt = own.render(messages[:at], generation_prompt=True).ids
        ids = own.render(messages[: at + 1]).ids[len(prompt) :]
        read = wrapped.parse_response(ids, prefix=prompt)
        calls = messages[at].get("tool_calls", [])
        called = [call["function"]["name"] for call in calls]
        if any(json.dumps(name, ensure_ascii=False) != f'"{name}"' for name in called):
            continue
        assert len(read.get("tool_calls", ())) == len(calls)
        text = own.tokenizer.decode(ids[:-1], skip_special_tokens=False)
        assert (said(own, messages[:at], read) if calls else read.get("content", "")) == text
        assert as_message(own, ids[:-1]).get("content") == (read.get("content") or (None if calls else ""))


@pytest.mark.parametrize(
    "breaks_off", ['<|call|>{"name": "f", "arguments": {"n"', '<|call|>{"na', "<|call|>no JSON<|end|>"]
)
def test_a_call_that_breaks_off_is_no_error_of_a_server(wrapped, breaks_off):
    read = wrapped.parse_response(breaks_off, prefix="<|assistant|>")
    assert read.get("content") == breaks_off.removesuffix("<|end|>") or read["tool_calls"][0]["function"] == {
        "name": "f",
        "arguments": '{"n"',
    }


def test_a_foreign_template_that_shows_definitions_is_proven_with_them(bpe, tmp_path):
    foreign = write_folder(bpe, tmp_path / "qwen", (templates.folder() / "qwen2_5.jinja").read_text())
    assert adopt.prove(foreign).structure.definition == "tool"
    own, theirs = load_renderer(foreign), AutoTokenizer.from_pretrained(foreign)
    for messages in (LOOKED_UP, [{"role": "system", "content": "Be brief."}, *LOOKED_UP], PLAIN):
        shown = together(messages, defined(LOOK_UP, {"name": "f"}))
        rendered = own.render(shown)
        parity.check(own, shown, rendered, row="r1")
        turns, tools = for_template(shown)
        assert rendered.ids == theirs.apply_chat_template(turns, tools=tools)["input_ids"]


SHOWS = (
    "{% macro d() %}{% for t in tools or () %}{{ SHOWN }}{% endfor %}{% endmacro %}"
    "{% if tools and messages[0].role != 'system' %}{{ '<|im_start|>system\n' + d() + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content or '') }}"
    "{% if loop.first and m.role == 'system' %}{{ d() }}{% endif %}{% for c in m.tool_calls or () %}"
    "{{ '<call>' ~ c.function.name ~ ' ' ~ (c.function.arguments | tojson) }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.parametrize(
    ("shown", "definition"),
    [
        ("(t | tojson) + ';'", "tool"),
        ("(t.function | tojson) + ';'", "function"),
        ("t.function.name", ""),  # reads what a definition says
        ("(t | tojson) if loop.index < 3 else 'more'", ""),  # drops some
    ],
)
def test_definitions_are_learned_from_templates_that_only_copy_them(shown, definition):
    found = structure_of(SHOWS.replace("SHOWN", shown), {}, ["<|im_start|>", "<|im_end|>"])
    assert (found.definition, bool(found.call)) == (definition, True)


@pytest.mark.parametrize("asks", ["t.name", "t.function.name", "t | tojson(indent=2)", "tools | tojson", "t | string"])
def test_of_a_definition_a_template_may_know_only_its_json(asks):
    asked = [{"role": "system", "content": None, "tools": [HOLE]}, {"role": "user", "content": HOLE}]
    source = f"{{% for t in tools %}}{{{{ {asks} }}}}{{% endfor %}}"
    with pytest.raises(Unprovable):
        Template(source, {}).parts(asked, False)


def test_definitions_part_from_the_messages_and_join_them_again():
    for messages in (PLAIN, [{"role": "system", "content": "Be brief."}, *PLAIN]):
        assert apart(together(messages, defined(LOOK_UP))) == (messages, defined(LOOK_UP))
    assert apart(PLAIN) == (PLAIN, None)
    with pytest.raises(Unrenderable):
        for_template([{"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "{"}}]}])
