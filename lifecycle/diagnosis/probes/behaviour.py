"""Behaviour: the base can know it, but was not shown how to answer, not often enough, or was shown something else."""

import json
import math
from collections import Counter
from typing import Any

from lifecycle.data.conversations import answer_key
from lifecycle.data.jsonl import load_rows
from lifecycle.diagnosis.probes.probe import Seen, higher_rate, knob, probe
from lifecycle.diagnosis.readings import Knob, between
from lifecycle.diagnosis.records import Asked, Records, failed
from lifecycle.evaluation.grading import json_objects

LOOKUP_STEPS = 300  # of 8 to 16 rows, in which the tiny recipes learn to copy
BY_HEART = 0.05  # so much better on what was trained on: it is remembered, and longer training changes nothing
OPENING = 2  # characters of an answer: enough to tell an object from a sentence
FEW = 8  # failing items of a kind, below which nothing is said about it


@probe("behaviour")
def copied(run: Records) -> Seen | str:
    """How well SFT reproduces held-out demonstrations, token by token under its own prompt.

    The tiny recipe ends at .99 of the answer tokens right; at .96 a lookup over a record is not learned yet: form
    comes between steps 0 and 100, copying between 100 and 400 (docs/learning.md). Read before preferences moved it.
    """
    accuracy = run.curve("sft", "dev/token_accuracy")
    if not accuracy:
        return "SFT was not measured on held-out demonstrations"
    step, value = accuracy[-1]
    trained = run.curve("sft", "token_accuracy")
    seen = f", {trained[-1][1]:.1%} in training" if trained else ""
    by_heart = bool(trained) and trained[-1][1] - value > BY_HEART
    return Seen(
        strength=between(value, 0.975, 0.93),
        says=f"{value:.1%} of the answer tokens of held-out demonstrations are the likeliest ones{seen}",
        seen="sft",
        source=f"{run.source('sft')}, step {step}",
        stage="demonstrations" if by_heart else "sft",
        refuted_by="wrong answers that stay wrong with the longer training",
        knobs=(
            *higher_rate(run, "sft"),
            _longer(run),
            knob(run, "demonstrations", "show more of them, of the kinds that fail"),
        ),
    )


@probe("behaviour")
def right_form_wrong_content(run: Records) -> Seen | str:
    """Failing answers that have the form asked for, an object with the right key, and another value in it.

    Form is learned at once, what to fill in much later: a model in between passes every check of form.
    """
    wrong = failed([each for each in run.asked if "field" in each.row])
    if not wrong:
        return "no wrong answers to look at" if run.asked else "no generated answers in the evaluation"
    formed = [each for each in wrong if _names_the_field(each)]
    share = len(formed) / len([each for each in run.asked if "field" in each.row])
    return Seen(
        strength=between(share, 0.1, 0.4),
        says=f"{len(formed)} of {len(wrong)} wrong answers are an object with the right key and a wrong value",
        seen="evaluate",
        source=run.source("evaluate"),
        stage="sft",
        failing=len(formed),
        examples=_examples(formed),
        refuted_by="the same answers from a model trained twice as long",
        knobs=(*higher_rate(run, "sft"), _longer(run)),
    )


@probe("behaviour")
def kinds_shown(run: Records) -> Seen | str:
    """Whether what fails was demonstrated: wrong answers by kind of question, beside how often that kind was shown.

    The kind of a question with a `field` is that field and whether the record has it; elsewhere it is the slice.
    """
    if "demonstrations" not in run.folders or not run.asked:
        return "needs demonstrations made here and generated answers"
    asked = Counter(_kind(each.row) for each in run.asked if each.item.score is not None)
    wrong = Counter(_kind(each.row) for each in failed(run.asked))
    shown = Counter(kind_demonstrated(row) for row in load_rows(run.folders["demonstrations"] / "train.jsonl"))
    rows = sum(shown.values())
    overall = sum(wrong.values()) / max(1, sum(asked.values()))
    missing = {
        kind: wrong[kind]
        for kind, count in asked.items()
        if wrong[kind] >= FEW
        and wrong[kind] / count > max(0.2, 1.5 * overall)
        and shown[kind] / rows < 0.25 * count / sum(asked.values())
    }
    lost = sum(missing.values())
    names = ", ".join(sorted(missing, key=missing.__getitem__, reverse=True)[:4])
    return Seen(
        strength=between(lost / max(1, sum(asked.values())), 0.02, 0.15),
        says=f"{lost} wrong answers are of kinds that were hardly demonstrated: {names}"
        if missing
        else f"what fails was demonstrated as often as it is asked ({len(asked)} kinds)",
        seen="evaluate",
        source=f"{run.source('evaluate')}, {run.source('demonstrations')}",
        stage="demonstrations",
        failing=lost,
        refuted_by="kinds that stay wrong once they are demonstrated as often as they are asked",
        knobs=(knob(run, "demonstrations", f"add demonstrations of {names}"),) if missing else (),
    )


@probe("behaviour")
def demonstrations_are_right(run: Records) -> Seen | str:
    """Demonstrations whose answer does not agree with the record in their own question.

    A record in the prompt makes a demonstration checkable without its gold answer: the value of the field asked for.
    """
    if "demonstrations" not in run.folders:
        return "no demonstrations were made here"
    checked = wrong = 0
    examples: list[str] = []
    for row in load_rows(run.folders["demonstrations"] / "train.jsonl"):
        answer = _answer_of(row)
        record = _record_of(row)
        if answer is None or record is None or len(answer) != 1:
            continue
        ((field, value),) = answer.items()
        checked += 1
        if record.get(field) != value:
            wrong += 1
            examples.append(f"{field}: demonstrated {value!r}, the record has {record.get(field)!r}")
    if not checked:
        return "no demonstration carries a record its answer could be checked against"
    return Seen(
        strength=between(wrong / checked, 0.01, 0.1),
        says=f"{wrong} of {checked} demonstrations that can be checked give another value than their record",
        seen="demonstrations",
        source=run.source("demonstrations"),
        stage="demonstrations",
        examples=tuple(examples[:3]),
        refuted_by="these demonstrations removed, and nothing changes",
        knobs=(knob(run, "demonstrations", "remove the demonstrations that contradict their own record"),)
        if wrong
        else (),
    )


@probe("behaviour")
def demonstrated_manner(run: Records) -> Seen | str:
    """Answers that hold the right value and are graded wrong or not terse: the manner is not the one asked for."""
    with_value = [each for each in run.asked if each.row.get("value") is not None and each.item.answer]
    if not with_value:
        return "no generated answers whose right value is known"
    manner = [
        each for each in with_value if each.item.score == 0 and str(each.row["value"]) in (each.item.answer or "")
    ]
    return Seen(
        strength=between(len(manner) / len(with_value), 0.08, 0.4),
        says=f"{len(manner)} of {len(with_value)} greedy answers hold the right value and are wrong all the same",
        seen="evaluate",
        source=run.source("evaluate"),
        stage="demonstrations",
        failing=len(manner),
        examples=_examples(manner),
        refuted_by="demonstrations in the manner asked for that change nothing",
        knobs=(knob(run, "demonstrations", "demonstrate the manner the suite asks for"),),
    )


def _names_the_field(each: Asked) -> bool:
    found = json_objects(each.item.answer or "")
    return len(found) == 1 and list(found[0][2] or {}) == [each.row["field"]]


def _kind(row: dict[str, Any]) -> str:
    if "field" not in row:
        return str(row.get("slice", ""))
    return f"{row['field']}, {'absent' if row.get('value') is None else 'present'}"


def kind_demonstrated(row: dict[str, Any]) -> str:
    answer = _answer_of(row)
    if answer is None or len(answer) != 1:
        return ""
    ((field, value),) = answer.items()
    return f"{field}, {'absent' if value is None else 'present'}"


def opening(messages: list[dict[str, Any]]) -> str:
    """How a conversation's last answer begins."""
    return str(messages[-1]["content"])[:OPENING]


def _answer_of(row: dict[str, Any]) -> dict[str, Any] | None:
    found = json_objects(answer_key(row["messages"]))
    return found[0][2] if len(found) == 1 else None


def _record_of(row: dict[str, Any]) -> dict[str, Any] | None:
    """The record in a question: its last line that is an object."""
    for message in row["messages"]:
        if message["role"] == "user":
            for line in reversed(message["content"].splitlines()):
                if line.startswith("{"):
                    try:
                        found = json.loads(line)
                    except ValueError:
                        continue
                    return found if isinstance(found, dict) else None
    return None


def agrees(row: dict[str, Any]) -> bool | None:
    """Whether a conversation's answer gives the value its record has; None where that cannot be checked."""
    answer, record = _answer_of(row), _record_of(row)
    if answer is None or record is None or len(answer) != 1:
        return None
    ((field, value),) = answer.items()
    return bool(record.get(field) == value)


def _examples(some: list[Asked]) -> tuple[str, ...]:
    return tuple(
        f"{each.item.id}: asked {each.row['field']}={each.row.get('value')!r}, said {(each.item.answer or '')[:80]}"
        for each in some[:3]
    )


def _longer(run: Records) -> Knob:
    """Twice as long, and at least as long as a lookup was seen to take."""
    steps = run.manifests["sft"].facts.get("steps", LOOKUP_STEPS) if "sft" in run.manifests else LOOKUP_STEPS
    times = max(2, math.ceil(LOOKUP_STEPS / steps))
    epochs = run.config("sft").get("epochs")
    settings = () if epochs is None else (f"sft.epochs={times * epochs:g}",)
    return knob(run, "sft", f"train on the demonstrations {times} times as long", *settings, times=times)
