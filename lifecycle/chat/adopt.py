"""A foreign tokenizer folder becomes a protocol: its template is proven, the proof is tried on awkward contents, and
both are written beside the tokenizer, with golden conversations. Later stages need no Jinja.
"""

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers

from lifecycle.chat import golden, panics, parity, sandbox
from lifecycle.chat.definitions import together
from lifecycle.chat.protocol import PROVEN_FILE, Protocol, Proven, load_tokenizer
from lifecycle.chat.prove import Unproven, structure_of
from lifecycle.chat.render import Renderer, load_renderer
from lifecycle.chat.sandbox import Asked
from lifecycle.chat.structure import ASSISTANT, Messages, Structure, Unrenderable
from lifecycle.errors import ContractError, InputError
from lifecycle.sealing import sha256_file

BOUND_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
TRIED = 200

# What templates and tokenizers are known to treat in a way of their own.
CONTENTS = (
    "Hello",
    "",
    " ",
    "\n\nTwo lines\n before\n\n",
    "  spaces  ",
    "naïve 漢字 🙂",
    "12345.678",
    "{{ messages }}{% raw %}",
    'don\'t <b>&amp;</b> "quote" \\',
    "<think>\nno\n</think>\n\nyes",
    "</think>",
    "<tool_response>x</tool_response>",
    "[INST] user [/INST]",
    "### Assistant:\nsure",
    "/no_think",
    "system",
    "a\u00a0b\u200b\r\n\tend",
)
WHAT = {"type": "object", "properties": {"what": {"enum": ["é", None]}}, "required": ["what"]}
DEFINED = [
    {"type": "function", "function": {"name": "look_up", "description": 'naïve "x" <b>\n', "parameters": WHAT}},
    {"type": "function", "function": {"name": "end"}},
]


def prove(folder: Path) -> Proven:
    """The protocol of a foreign tokenizer folder, written into it; ContractError says what does not hold, and where."""
    with panics.refused(folder):
        return _prove(folder)


def _prove(folder: Path) -> Proven:
    tokenizer, config = load_tokenizer(folder), _config(folder)
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    variables = {name: text for name, text in _named(config).items() if name.endswith("_token")}
    specials = {
        token.content: number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special
    }
    _only_plain_tokens(tokenizer, folder)
    structure = structure_of(template, variables, list(specials))
    stop_id = specials[structure.stop]
    eos_id = specials.get(variables.get("eos_token", ""), stop_id)
    proven = Proven(
        structure=structure,
        bos_id=specials.get(variables.get("bos_token", ""), eos_id),
        pad_id=specials.get(variables.get("pad_token", ""), eos_id),
        stop_id=stop_id,
        files={name: sha256_file(folder / name) for name in BOUND_FILES},
    )
    renderer = Renderer(tokenizer, structure, Protocol(proven.bos_id, proven.pad_id, stop_id, digest=""))
    try_on_awkward_contents(template, variables, renderer)
    (folder / PROVEN_FILE).write_text(proven.model_dump_json(indent=1) + "\n", encoding="utf-8")
    golden.seal(load_renderer(folder), folder)
    return proven


def try_on_awkward_contents(template: str, variables: Mapping[str, str], renderer: Renderer) -> int:
    """Render conversations as a server would and hold ours against them; how many conversations there were."""
    rows = [row for row in _conversations(renderer.structure) if _is_renderable(renderer, row)]
    asked = [Asked(row, False, False) for row in rows]
    prompts = [Asked(row[:-1], True, False) for row in rows]
    found = sandbox.render(template, variables, [*asked, *prompts])
    for one, result in zip([*asked, *prompts], found, strict=True):
        expected = renderer.structure.text(one.messages, generation_prompt=one.prompt)
        text = result.get("found")
        if text != expected:
            raise Unproven(
                "copied", f"it renders {one.messages!r} as {text or result!r}, and its table as {expected!r}"
            )
        ids, served = renderer.render(one.messages, generation_prompt=one.prompt).ids, served_ids(renderer, text)
        if ids != served:
            raise Unproven("same ids", f"a server sends {served} for {text!r}, the pieces give {ids}")
    for number, row in enumerate(rows):
        try:
            parity.check(renderer, row, renderer.render(row), row=f"probe {number}")
        except ContractError as error:
            raise Unproven("text kept", str(error)) from error
    return len(rows)


def served_ids(renderer: Renderer, text: str) -> list[int]:
    """The ids a server gives a rendered text: tokenized whole, special tokens in it taken for such."""
    return list(renderer.tokenizer.encode(text, add_special_tokens=False).ids)


def _conversations(structure: Structure) -> Iterator[Messages]:
    """Conversations of awkward contents, the same ones each time."""
    dice = random.Random(0)
    for number in range(TRIED):
        roles = [("user", ASSISTANT)[at % 2] for at in range(2 * dice.randint(1, 3))]
        if "system" in structure.roles and number % 2:
            roles.insert(0, "system")
        yield [{"role": role, "content": dice.choice(CONTENTS)} for role in roles]
    if structure.call:
        function = {"name": "look_up", "arguments": {"what": 'naïve "x"', "n": [1, None]}}
        call = {"id": "call00001", "type": "function", "function": function}
        asks = {"role": ASSISTANT, "content": None, "tool_calls": [call, call]}
        tool = {"role": "tool", "content": '{"found": 1}', "tool_call_id": "call00001", "name": "look_up"}
        called: list[dict[str, Any]] = [{"role": "user", "content": "?"}, asks, tool, tool]
        called += [{"role": ASSISTANT, "content": "1"}]
        yield called
        if structure.definition:
            yield together(called, DEFINED)
            yield together([called[0], called[-1]], DEFINED[:1])
            if "system" in structure.roles:
                yield together([{"role": "system", "content": "Be brief."}, *called], DEFINED)


def _is_renderable(renderer: Renderer, messages: Messages) -> bool:
    try:
        renderer.render(messages)
    except Unrenderable:
        return False
    return renderer.typed(messages) is None


def _config(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: expected a readable tokenizer_config.json, found {error!r}. Adopt a whole tokenizer folder."
        ) from error
    return found


def _named(config: Mapping[str, Any]) -> dict[str, str]:
    """The tokens a config names; a token may be a text or an object with one."""
    found = {name: value.get("content") if isinstance(value, Mapping) else value for name, value in config.items()}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _only_plain_tokens(tokenizer: tokenizers.Tokenizer, folder: Path) -> None:
    """Nothing in the tokenizer makes ids depend on length, on chance, or on what is next to a piece."""
    settings = {
        "truncates": tokenizer.truncation,
        "pads": tokenizer.padding,
        "draws its merges at random": getattr(tokenizer.model, "dropout", None),
    }
    for what, found in settings.items():
        if found:
            raise Unproven("same ids", f"the tokenizer.json of {folder.name} {what} ({found})")
    typed = sorted(t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special and t.normalized)
    if typed and tokenizer.normalizer is not None:  # what a normaliser writes is then read as the token
        raise Unproven("no injection", f"other text may become the special tokens {typed[:4]} of {folder.name}")
    odd = sorted(
        token.content
        for token in tokenizer.get_added_tokens_decoder().values()
        if token.special and (token.lstrip or token.rstrip or token.single_word)
    )
    if odd:
        raise Unproven("same ids", f"the special tokens {odd[:4]} of {folder.name} take white space beside them away")
