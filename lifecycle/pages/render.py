"""Markdown from templates in which every value is escaped unless it says otherwise."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lifecycle.artifacts import Checkpoint, EvalReport, GateDecision
from lifecycle.sealing import Manifest

# Item ids, names of sources, a model's answers come from outside: nothing in them may become markup, a link or a cell.
ENTITIES = str.maketrans({character: f"&#{ord(character)};" for character in "&<>|`[]\\"})


def escaped(value: Any) -> str:
    """`value` on one line, as text."""
    if isinstance(value, Markup):
        return str(value)
    text = "".join(character if character.isprintable() else " " for character in str(value))
    return " ".join(text.translate(ENTITIES).split())


def decision_page(decision: GateDecision) -> str:
    """The verdict and every check behind it."""
    return _render("decision.md.jinja", decision=decision)


def model_card(
    *,
    name: str,
    description: str,
    intended_use: str,
    licence: str,
    checkpoint: Checkpoint,
    decision: GateDecision,
    report: EvalReport,
    lineage: Sequence[Manifest],
    model_type: str,
) -> str:
    """A Hugging Face model card: what it is, what it was made from, what it scored and how to load it."""
    corpora = [manifest.facts["sources"] for manifest in lineage if manifest.kind == "Corpus"]
    return _render(
        "card.md.jinja",
        name=name,
        description=description,
        intended_use=intended_use,
        licence=licence,
        checkpoint=checkpoint,
        decision=decision,
        report=report,
        sources={source: facts for sources in corpora for source, facts in sources.items()},
        bases=[manifest.config for manifest in lineage if manifest.stage == "base"],
        conversations=[body for manifest in lineage for body in _conversations(manifest)],
        lineage=lineage,
        model_type=model_type,
    )


def _conversations(manifest: Manifest) -> list[dict[str, str]]:
    """Name and licence of each body of conversations: of every source, or of the one file to train on."""
    if manifest.kind not in ("Demonstrations", "Comparisons"):
        return []
    sources = manifest.config.get("sources") or [{**manifest.config, "name": None}]
    return [
        {
            "kind": manifest.kind,
            "name": source["name"] or str(source.get("train") or "made here").rpartition("/")[2],
            "licence": source.get("licence", "unstated"),
        }
        for source in sources
    ]


def _render(template: str, **values: Any) -> str:
    return ENVIRONMENT.get_template(template).render(**values)


def _number(value: float | None) -> str:
    return "unmeasured" if value is None else f"{value:.4f}"


def _json(value: Any) -> Markup:
    """A YAML string: JSON is YAML, and has one way of quoting."""
    return Markup(json.dumps(value))


ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    finalize=escaped,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # `finalize` escapes for Markdown, of which HTML is a part
)
ENVIRONMENT.filters.update(number=_number, json=_json)
