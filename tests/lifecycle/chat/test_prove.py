"""Foreign templates: each law broken once and named; what is proven is the table that the template is."""

import pytest

from benchmarks import templates
from lifecycle.chat import sandbox
from lifecycle.chat.prove import Unproven, structure_of
from lifecycle.chat.sandbox import Asked
from lifecycle.chat.structure import ANSWER, FINISH, START, Assumed, Strip, Unrenderable
from lifecycle.errors import ContractError

SPECIALS = ["<|im_start|>", "<|im_end|>", "<s>"]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def of(template: str):
    return structure_of(template, {"bos_token": "<s>"}, SPECIALS)


def test_the_table_of_chatml():
    found = of(CHATML)
    assert found.joins[START]["user"] == "<|im_start|>user\n"
    assert found.joins["user"][ANSWER] == "<|im_end|>\n<|im_start|>assistant\n"
    assert found.joins["assistant"] == {"user": "<|im_end|>\n<|im_start|>user\n", FINISH: "<|im_end|>\n"}
    assert found.joins[ANSWER] == {"assistant": ""}
    assert found.stop == "<|im_end|>"
    assert found.strips == found.assumed == {}


def test_a_template_that_trims_is_a_table_with_a_declared_strip():
    found = of(CHATML.replace("m.content", "m.content | trim"))
    assert found.strips["user"] == (Strip(how="strip"),)
    assert "user\nhi<|im_end|>" in found.text([{"role": "user", "content": " hi\n"}])


def test_what_a_template_asks_about_a_content_becomes_an_assumption_and_rows_that_break_it_are_refused():
    asks = CHATML.replace("m.content", "(m.content if '</think>' not in m.content else 'x')")
    found = of(asks)
    assert found.assumed["assistant"] == (Assumed(question="contains", text="</think>"),)
    with pytest.raises(Unrenderable, match="treats others in its own way") as refused:
        found.text([{"role": "user", "content": "a</think>b"}])
    assert refused.value.reason == "user_content_contains"


# ruff: noqa: E501
REFUSED = {
    "the last answer is another": ("prefix", CHATML.replace("m.role + '\n'", "m.role + ('\n\n' if loop.last else '\n')")),
    "an index counts": ("neighbours", CHATML.replace("m.role + '\n'", "m.role + ('\n' if loop.index0 != 4 else ' ')")),
    "a clock is read": ("contained", "{{ strftime_now('%Y') }}" + CHATML),
    "attributes are reached for": ("contained", "{{ ''.__class__.__mro__ }}" + CHATML),
    "content is upper-cased": ("copied", CHATML.replace("m.content", "m.content | upper")),
    "content is counted": ("copied", CHATML.replace("m.content", "(m.content if m.content | length < 9 else '')")),
    "content is looked for in a text": ("copied", CHATML.replace("m.content", "(m.content if m.content in 'yes' else '')")),
    "content is formatted": ("copied", CHATML.replace("m.content", "'%s' % m.content")),
    "content is written twice": ("copied", CHATML.replace("m.content", "m.content ~ m.content")),
    "earlier answers are dropped": ("copied", CHATML.replace("messages %}", "messages[-2:] %}")),
    "nothing special ends an answer": ("stops", CHATML.replace("'<|im_end|>\n'", "'\n'")),
    "a turn can be typed": ("no injection", CHATML.replace("'<|im_start|>'", "'### '").replace(
        "m.content + '<|im_end|>\n'", "m.content + ('<|im_end|>' if m.role == 'assistant' else '\n')"
    ).replace("{{ '<|im_start|>assistant", "{{ '### assistant")),
    "a prompt opens no answer": ("prefix", CHATML.replace("'<|im_start|>assistant\n' }}", "'<|im_start|>assistant\n<think>' }}")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_breaks_a_law_is_refused_with_the_law(name):
    predicate, template = REFUSED[name]
    with pytest.raises(Unproven, match="expected a chat template of which") as refused:
        of(template)
    assert refused.value.predicate == predicate, refused.value.found


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(99) %}{% endfor %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10000000000 }}",
        "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% if %}",
    ],
)
def test_a_template_past_its_limits_is_refused(template, monkeypatch):
    monkeypatch.setattr(sandbox, "CPU_SECONDS", 1)
    with pytest.raises(ContractError, match=r"within (1 s|its limits)"):
        of(template)


def test_a_template_that_writes_too_much_is_stopped_while_it_writes(monkeypatch):
    monkeypatch.setattr(sandbox, "ANSWER_BYTES", 10_000)
    with pytest.raises(ContractError, match="found one that writes more than"):
        sandbox.render("{{ 'x' * 100000 }}", {}, [Asked([], False, False)])


def test_a_template_finds_no_files_and_no_variables_of_this_process(monkeypatch):
    monkeypatch.setenv("A_SECRET", "hush")
    [found] = sandbox.render("{% include 'x' %}", {}, [Asked([], False, False)])
    assert "found" not in found
    [found] = sandbox.render("{{ self._TemplateReference__context.environment.loader }}", {}, [Asked([], False, False)])
    assert "found" not in found or found["found"] == ""


ACCEPTED_FAMILIES = {
    "qwen2_5": ("<|im_end|>", "tool"),
    "llama3": ("<|eot_id|>", ""),
    "gemma": ("<end_of_turn>", ""),
    "cohere": ("<|END_OF_TURN_TOKEN|>", ""),
    "phi3": ("<|end|>", ""),
    "lfm2": ("<|im_end|>", ""),
    "qwen3_training": ("<|im_end|>", "tool"),
}
REFUSED_FAMILIES = {
    "qwen3": "copied",
    "qwen3_6": "prefix",
    "deepseekv3": "prefix",
    "glm4moe": "stops",
    "llama3_2": "contained",
    "gptoss": "contained",
    "idefics3": "copied",
}


@pytest.mark.parametrize("family", [*ACCEPTED_FAMILIES, *REFUSED_FAMILIES])
def test_model_families_are_proven_or_refused_by_name(family):
    template = (templates.folder() / f"{family}.jinja").read_text()
    if family in REFUSED_FAMILIES:
        assert templates.verdict(template) == REFUSED_FAMILIES[family]
    else:
        found = structure_of(template, templates.VARIABLES, templates.specials_in(template))
        assert (found.stop, found.definition) == ACCEPTED_FAMILIES[family]
        assert bool(found.call) == bool(found.definition)


TOOLS = CHATML.replace("m.content", "(m.content or '')").replace(
    " + '<|im_end|>\n' }}",
    " }}{% for c in m.tool_calls or () %}{{ '<call>' ~ c.function.name ~ ' ' ~ (c.function.arguments | tojson) }}"
    "{% endfor %}OTHER{{ '<|im_end|>\n' }}",
)


def test_a_template_that_counts_to_any_length_is_refused():
    """Also to one that no other rule of a template has."""
    with pytest.raises(Unproven) as refused:
        of(CHATML.replace("m.content", "m.content + ('x' if messages | length == 20 else '')"))
    assert refused.value.predicate == "prefix"


@pytest.mark.parametrize("where", ["loop.index > 12", "m.name is not defined", "messages | length == 41"])
def test_tools_are_not_learned_from_a_template_that_treats_some_of_their_turns_otherwise(where):
    assert of(TOOLS.replace("OTHER", "")).call == ("call.name", "call.arguments")
    odd = f"{{% if m.role == 'tool' and {where} %}}other{{% endif %}}"
    assert of(TOOLS.replace("OTHER", odd)).call == ()
