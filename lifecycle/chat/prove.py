"""Whether a foreign chat template keeps the laws of `chat.parity` for every conversation, and the table that it is.

The template is rendered with holes for contents (`chat.symbolic`), in a process with limits (`chat.sandbox`), for every
order of roles up to a length. What comes back are its literal texts and its holes: from them the table of texts between
neighbours is read, and any two renderings that disagree about it are a counter-example. Then awkward contents are
rendered for real, and the table has to give the same characters, and the tokenizer the same ids piece by piece.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any

from lifecycle.chat import sandbox, tools
from lifecycle.chat.definitions import SYSTEM
from lifecycle.chat.sandbox import Asked
from lifecycle.chat.structure import (
    ANSWER,
    ASSISTANT,
    FINISH,
    SPOKEN,
    START,
    Assumed,
    Definition,
    Strip,
    Structure,
)
from lifecycle.chat.symbolic import HOLE
from lifecycle.chat.tools import Order, speaker_of
from lifecycle.errors import ContractError

Roles = tuple[str, ...]
Turns = Sequence[Mapping[str, Any]]
LONGEST = 64
"""Conversations of every length up to this: a template may count. Rows are never longer."""


class Unproven(ContractError):
    """A template for which a predicate does not hold, with the counter-example."""

    def __init__(self, predicate: str, found: str) -> None:
        super().__init__(
            f"expected a chat template of which {PREDICATES[predicate]}, found that {found}. Train with another "
            "template, for example one without what was found (base.template)."
        )
        self.predicate, self.found = predicate, found


PREDICATES = {
    "contained": "rendering stays within its limits and reaches for nothing but the messages",
    "copied": "every content is copied once, in its order, whatever it says",
    "neighbours": "the text between two messages depends on who speaks before and after alone",
    "prefix": "the prompt before an answer opens every conversation that goes on with one",
    "stops": "a special token ends each turn of the assistant",
    "no injection": "only special tokens begin and end what the assistant says: nobody can type a turn",
    "same ids": "its pieces have the ids that the whole text has",
    "text kept": "decoding gives back the text",
}


@dataclass
class Table:
    """What was learned so far, and from which order of roles: the witness of a counter-example."""

    joins: dict[str, dict[str, str]] = field(default_factory=dict)
    witnesses: dict[tuple[str, str], tuple[Roles, int]] = field(default_factory=dict)
    strips: dict[str, tuple[Strip, ...]] = field(default_factory=dict)
    assumed: dict[str, set[Assumed]] = field(default_factory=dict)

    def learn(self, left: str, right: str, text: str, roles: Roles, at: int) -> None:
        """Note the text between two neighbours, or raise where another was seen between them."""
        known = self.joins.setdefault(left, {}).setdefault(right, text)
        witness, place = self.witnesses.setdefault((left, right), (roles, at))
        if known != text:
            shorter, longer = sorted((witness, roles), key=len)
            predicate = "prefix" if place == at and shorter == longer[: len(shorter)] else "neighbours"
            raise Unproven(
                predicate,
                f"between {left} and {right} stands {known!r} in {_shown(witness)} and {text!r} in {_shown(roles)}",
            )


def structure_of(template: str, variables: Mapping[str, str], specials: Sequence[str]) -> Structure:
    """The table that a template is. `variables` are the tokens it may name, `specials` the tokenizer's special ones."""
    table = Table()
    shapes = list(_shapes())
    calls = tools.conversations(LONGEST) if "tool_calls" in template else []  # what it never names it cannot write
    definitions = tools.definitions(LONGEST) if calls and "tools" in template else []
    asked = [*((_turns(roles), prompt) for roles, prompt in shapes), *calls, *definitions]
    found = iter(sandbox.render(template, variables, [Asked(turns, prompt, True) for turns, prompt in asked]))
    refused = _learn(table, shapes, list(islice(found, len(shapes))))
    if ASSISTANT not in table.joins:
        raise Unproven(
            "copied", f"it renders no conversation of user and assistant: {refused.get(('user', ASSISTANT))}"
        )
    for roles in refused:
        if all(right in table.joins.get(left, {}) for left, right in pairwise((START, *roles))):
            raise Unproven("neighbours", f"it refuses {_shown(roles)} and renders other conversations of such turns")
    table, order = _learn_calls(table, calls, list(islice(found, len(calls))))
    table, definition = _learn_definitions(table, order, definitions, list(found))
    joins = _openings(table)
    stop = _stop(joins, specials)
    _no_injection(joins, specials)
    return Structure(
        joins=joins,
        stop=stop,
        strips={role: strips for role, strips in sorted(table.strips.items()) if strips},
        assumed={
            role: tuple(sorted(found, key=lambda one: one.model_dump_json()))
            for role, found in sorted(table.assumed.items())
            if found
        },
        call=order.call,
        tool=order.tool,
        definition=definition,
        most_messages=LONGEST,
    )


def _shapes() -> Iterator[tuple[tuple[str, ...], bool]]:
    """Orders of roles, each with whether an answer is asked for behind it."""
    for length in range(1, LONGEST + 1):
        for first in ((), ("system",)):
            roles = (*first, *(("user", ASSISTANT)[at % 2] for at in range(length - len(first))))
            if roles[-1] != "system":
                yield roles, False
            if roles[-1] == "user":
                yield roles, True


def _turns(roles: Sequence[str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": HOLE} for role in roles]


def _learn(
    table: Table, shapes: Sequence[tuple[tuple[str, ...], bool]], found: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, ...], str]:
    """Read the table off the renderings; the orders of roles that the template refuses, with its reason."""
    refused = {}
    for (roles, prompt), one in zip(shapes, found, strict=False):
        if "unprovable" in one:
            raise Unproven(one.get("predicate", "copied"), f"{one['unprovable']}, in {_shown(roles)}")
        if "refused" in one:
            refused[roles] = one["refused"]
            continue
        speakers = {(number, "content"): role for number, role in enumerate(roles)}
        _read(table, one["found"], [*roles, ANSWER if prompt else FINISH], speakers, roles)
    return refused


def _read(
    table: Table,
    found: Mapping[str, Any],
    expected: Sequence[str],
    speakers: Mapping[tuple[int, str], str],
    roles: Roles,
) -> None:
    """Read one rendering: who speaks in which order, the text between them, what each loses."""
    spoken, texts, text = [], [], ""
    for part in found["parts"]:
        if isinstance(part, str):
            text += part
            continue
        number, name, strips = part
        speaker, kept = speakers[number, name], _strips(strips)
        if table.strips.setdefault(speaker, kept) != kept:
            raise Unproven("copied", f"it strips what {speaker} says in one place, not in another, in {_shown(roles)}")
        texts.append(text)
        spoken.append((number, speaker))
        text = ""
    numbers = [number for number, _ in spoken]
    if [speaker for _, speaker in spoken] != list(expected[:-1]) or numbers != sorted(numbers):
        raise Unproven("copied", f"of {_shown(roles)} it writes {_shown([speaker for _, speaker in spoken])}")
    for at, ((left, right), between) in enumerate(zip(pairwise((START, *expected)), (*texts, text), strict=True)):
        table.learn(left, right, between, roles, at)
    for (number, name, strips), question, asked in found["assumed"]:
        assumed = Assumed(question=question, text=asked, after=_strips(strips))
        table.assumed.setdefault(speakers[number, name], set()).add(assumed)


def _strips(found: Sequence[tuple[str, str | None]]) -> tuple[Strip, ...]:
    return tuple(Strip.model_validate({"how": how, "characters": characters}) for how, characters in found)


def _openings(table: Table) -> dict[str, dict[str, str]]:
    """The table with an answer's opening parted in two: what a prompt ends with, and what the assistant says itself."""
    joins = {left: dict(rights) for left, rights in table.joins.items()} | {ANSWER: {}}
    for left, rights in joins.items():
        for right in SPOKEN & set(rights) - {ANSWER}:
            if left in SPOKEN:
                continue
            prompt, whole, roles = rights.get(ANSWER), rights.pop(right), table.witnesses[left, right][0]
            if prompt is None or not whole.startswith(prompt):
                raise Unproven("prefix", f"a prompt ends with {prompt!r} where {_shown(roles)} goes on with {whole!r}")
            if joins[ANSWER].setdefault(right, whole[len(prompt) :]) != whole[len(prompt) :]:
                raise Unproven(
                    "neighbours", f"answers open with {joins[ANSWER][right]!r} and with {whole[len(prompt) :]!r}"
                )
    return joins


def _stop(joins: Mapping[str, Mapping[str, str]], specials: Sequence[str]) -> str:
    """The special token that ends each answer: the first one behind it, whatever follows."""
    stops = {}
    for left in SPOKEN & set(joins) - {ANSWER}:
        for right in set(joins[left]) - (SPOKEN - {ANSWER}):
            text = joins[left][right]
            at, _, token = min(
                ((text.find(one), -len(one), one) for one in specials if one in text), default=(0, 0, "")
            )
            if not token:
                raise Unproven("stops", f"behind what {left} says stands {text!r}, before {right}")
            stops[left, text[:at]] = token
    if len(set(stops.values())) != 1 or len({left for left, _ in stops}) != len(stops):
        raise Unproven(
            "stops", f"answers end in several ways: {sorted(text + stop for (_, text), stop in stops.items())}"
        )
    return stops.popitem()[1]


def _no_injection(joins: Mapping[str, Mapping[str, str]], specials: Sequence[str]) -> None:
    """What the assistant says is parted from what others say by a special token, which nobody can type."""
    for left, rights in joins.items():
        if ANSWER in rights and left != START and not any(token in rights[ANSWER] for token in specials):
            raise Unproven(
                "no injection", f"between {left} and an answer stands {rights[ANSWER]!r}, which can be typed"
            )


def _learn_calls(
    table: Table, shapes: Sequence[tuple[Turns, bool]], found: Sequence[Mapping[str, Any]]
) -> tuple[Table, Order]:
    """The table with how tools are called and answered, and the order of fields; as it was where it has none."""
    learned, order = deepcopy(table), Order()
    try:
        for (turns, prompt), one in zip(shapes, found, strict=False):
            if turns[0]["role"] not in table.joins or ("tool.name" in order.tool and tools.has_nameless(turns)):
                continue
            holes = _holes(one)
            order = order if any(order) else Order.of(turns, holes)
            _read_turns(learned, one["found"], turns, prompt, order)
    except (Unproven, KeyError):  # refused, or another text each time: rows with tools are then refused, one by one
        return table, Order()
    # Beside calls, a content that says nothing is none: that was rendered too. Without calls nothing was asked.
    empty = Assumed(question="is_empty", text="")
    if empty not in table.assumed.get(ASSISTANT, ()):
        learned.assumed.get(ASSISTANT, set()).discard(empty)
    return learned, order


def _learn_definitions(
    table: Table, order: Order, shapes: Sequence[tuple[Turns, bool]], found: Sequence[Mapping[str, Any]]
) -> tuple[Table, Definition]:
    """The table with how tools are defined, and what is written of a definition; as it was where it has none."""
    learned, written = deepcopy(table), set[Definition]()
    try:
        for (turns, prompt), one in zip(shapes, found, strict=False):
            if any(order) and (SYSTEM in table.joins or turns[0]["content"] is None):
                written.add(tools.written(_holes(one)))
                _read_turns(learned, one["found"], turns, prompt, order)
    except (Unproven, KeyError):
        return table, ""
    return (learned, written.pop()) if len(written) == 1 else (table, "")


def _holes(one: Mapping[str, Any]) -> list[tuple[int, str]]:
    return [(part[0], part[1]) for part in one["found"]["parts"] if not isinstance(part, str)]


def _read_turns(table: Table, found: Mapping[str, Any], turns: Turns, prompt: bool, order: Order) -> None:
    """Read one rendering of a conversation with tools."""
    speakers = {(number, name): speaker_of(turns[number]["role"], name) for number, name in _holes({"found": found})}
    expected = [speaker for turn in turns for speaker in order.speakers(turn)]
    roles = tuple("call" if turn.get("tool_calls") else turn["role"] for turn in turns)
    _read(table, found, [*expected, ANSWER if prompt else FINISH], speakers, roles)


def _shown(roles: Sequence[str]) -> str:
    shown = [*roles[:4], "...", *roles[-2:]] if len(roles) > 7 else roles
    return f"[{', '.join(shown)}]"
