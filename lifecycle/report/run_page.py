"""A run as one HTML page that a person wants to read: the chain, what it learned, what was decided, what to change."""

import shlex
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from lifecycle.diagnosis.comparison import compare
from lifecycle.diagnosis.records import Records
from lifecycle.diagnosis.verdict import HEALTHY, Diagnosis, diagnose
from lifecycle.errors import InputError, LifecycleError
from lifecycle.report import comparison, data_card_pictures, diagnosis, pictures, run_pictures
from lifecycle.report.data_card import card_of
from lifecycle.report.evaluation import findings_of
from lifecycle.report.findings import Findings
from lifecycle.report.key_numbers import duration
from lifecycle.report.mask import MaskedRow, of_run
from lifecycle.report.page import applied
from lifecycle.report.picture import Picture
from lifecycle.report.templates import html_environment, policy, style_sheet
from lifecycle.runs import Run
from lifecycle.sealing import write_atomically
from lifecycle.store import Store

MASK_ROWS = 3
GOOD = ("RELEASED", "AWAITING_APPROVAL", "COMPLETED")
TONES = {
    "RELEASED": "PROMOTE",
    "AWAITING_APPROVAL": "PROMOTE",
    "COMPLETED": "PROMOTE",
    "BLOCKED": "BLOCK",
    "FAILED": "BLOCK",
    "CRASHED": "BLOCK",
}

SECTIONS = {
    "wrong": "What went wrong",
    "well": "Diagnosis",
    "chain": "The chain",
    "compared": "Beside {}",
    "curves": "What training measured",
    "corpus": "From rows to documents",
    "mask": "What the loss covers",
    "scores": "Scores",
    "gate": "The gate's reasoning",
    "lineage": "Lineage, and how to make it again",
}


def write(store: Store, run: Run, path: Path, against: Run | None = None) -> Path:
    """Write the page of a run, by rename, and say where it is."""
    write_atomically(path, html(store, run, against).encode())
    return path


def html(store: Store, run: Run, against: Run | None = None) -> str:
    """The whole page, from sealed artifacts. What was removed since is said; what was changed since is refused."""
    records = Records(store, run)
    other = None if against is None else Records(store, against)
    record, style = run.record, style_sheet()
    day = datetime.fromtimestamp(record.started, UTC)
    recipe = record.recipe.rpartition("/")[2]
    beside = None if other is None else compare(records, other)
    found = diagnose(records, comparison=beside)
    disappointing = _disappointing(record.state, found)
    evaluation = _evaluation(run, against)
    parts: dict[str, Any] = {
        "wrong": found if disappointing else None,
        "well": None if disappointing or not records.stages else found,
        "chain": run_pictures.chain(records, other) if records.stages else None,
        "compared": beside,
        "curves": run_pictures.curves(records, other),
        "bits": run_pictures.bits(records),
        "without_kl": run_pictures.without_kl(records),
        "corpus": _funnel(records),
        "mask": _mask(run),
        "scores": _scores(evaluation),
        "gate": [applied(evaluation, rule, check) for rule, check in evaluation.checks] if evaluation else [],
        "lineage": records.manifests,
    }
    arguments = ["report", run.name] + ([] if against is None else ["--against", against.name])
    return (
        _environment()
        .get_template("run_page.html.jinja")
        .render(
            name=run.name,
            about=" · ".join(filter(None, [record.flow, recipe, f"{day:%-d %B %Y}", run.name])),
            headline=run.state.capitalize().replace("_", " "),
            message=record.message,
            gone=records.gone,
            tone=TONES.get(run.state, "INCONCLUSIVE"),
            cards=_cards(records),
            answer=diagnosis.headline(found),
            found=found,
            unseen=[each.problem for each in found.ranking[1:] if not each.readings and each.problem != HEALTHY],
            blind=diagnosis.blind(found),
            again=shlex.join(
                ["python", "-m", f"flows.{record.flow.replace('-', '_')}", "--recipe", record.recipe, *_set(run)]
            ),
            sections={id: title.format(against and against.name) for id, title in SECTIONS.items() if parts.get(id)},
            command=f"python -m lifecycle {shlex.join(arguments)}",
            style=style,
            policy=policy(style),
            **parts,
        )
    )


def _disappointing(state: str, found: Diagnosis) -> bool:
    return state not in GOOD or found.first.problem != HEALTHY


def _set(run: Run) -> list[str]:
    return [part for setting in run.record.settings for part in ("--set", setting)]


def _cards(run: Records) -> dict[str, str]:
    """The few numbers one looks at first."""
    record, stages = run.run.record, run.run.stages
    made = sum(not stage.reused for stage in stages)
    cards = {"took": duration(record.ended - record.started) if record.ended else "running"}
    cards["stages made"] = f"{made} of {len(stages)}"
    if run.candidate:
        facts = run.manifests[run.candidate].facts
        cards["parameters"] = f"{facts['parameters']:,}"
    tokens = sum(manifest.facts.get("tokens_seen", 0) for manifest in run.manifests.values())
    cards["tokens trained on"] = f"{tokens:,}"
    return cards


def _evaluation(run: Run, against: Run | None) -> Findings | None:
    try:
        return findings_of(run, against)
    except InputError:
        return None


def _scores(found: Findings | None) -> list[Picture]:
    if found is None:
        return []
    confidence = float(found.report.manifest.config.get("confidence", 0.95))
    return [
        *pictures.differences(found, found.wholes),
        *pictures.scores(found.wholes, what="Scores", confidence=confidence, opponent=found.opponent),
    ]


def _funnel(run: Records) -> Picture | None:
    return data_card_pictures.funnel(card_of(run.folders["corpus"])) if "corpus" in run.folders else None


def _mask(run: Run) -> list[MaskedRow]:
    try:
        return of_run(run, "sft", rows=MASK_ROWS)
    except LifecycleError:
        return []


@cache
def _environment() -> Environment:
    environment = html_environment().overlay()
    environment.filters = {
        **environment.filters,
        "price": diagnosis.price,
        "duration": duration,
        "key_numbers": comparison.key_numbers,
        "differences": comparison.differences,
        "conclusions": comparison.conclusions,
        "interval": comparison.interval,
        "number": comparison.number,
        "title": diagnosis.TITLES.__getitem__,
    }
    environment.tests = {**environment.tests, "likely": lambda each: each.probability >= diagnosis.LIKELY}
    return environment
