"""An evaluation report as one HTML page that needs nothing else."""

import math
from functools import cache, partial
from typing import Any

from jinja2 import Environment

from lifecycle.artifacts import Check
from lifecycle.evaluation.items import Item
from lifecycle.report import pictures, words
from lifecycle.report.findings import Findings, Line, Rule
from lifecycle.report.templates import html_environment, policy, style_sheet
from lifecycle.report.text import shown

CARDS = 4
LONGEST_REASON = 160  # of why an item has no score: a check's own words may be long
SHOWN_GAPS = 12
# In the order in which they need a person's eyes.
VERDICTS = {"FAIL": "✕ fails", "UNMEASURED": "— not measured", "INCONCLUSIVE": "? not settled", "PASS": "✓ holds"}
LAST = 2 * len(VERDICTS)

SECTIONS = {
    "gate": "The gate's rules",
    "live": "Against {}",
    "scores": "Scores",
    "slices": "Slices",
    "trust": "Can its confidence be believed?",
    "answers": "Answers",
    "examples": "Won and lost",
    "gaps": "What could not be measured",
    "contamination": "Seen in training?",
    "asked": "What was asked",
    "reading": "How to read this",
}


def html(f: Findings, *, name: str, about: str = "", command: str = "python -m lifecycle report") -> str:
    """The whole page. `name` is what the run is called, `about` what it was, `command` what makes this page again."""
    style = style_sheet()
    draw = partial(pictures.scores, confidence=_confidence(f), opponent=f.opponent)
    slices = {line.metric: draw(some, what=line.metric) for line in f.wholes if (some := f.slices(line.metric))}
    parts: dict[str, Any] = {
        "floors": pictures.floors(f),
        "differences": pictures.differences(f, f.wholes),
        "scores": draw(f.wholes, what="Scores"),
        "slices": slices,
        "reliability": [pictures.reliability(found) for found in f.calibrations],
        "answers": [
            *(pictures.path(found) for found in f.paths),
            *(pictures.length(found, opponent=f.opponent) for found in f.lengths),
        ],
        "gaps": pictures.missing(f.gaps[:SHOWN_GAPS]),
        "shown_gaps": f.gaps[:SHOWN_GAPS],
    }
    there = {"gate": f.decision, "live": parts["differences"], "slices": slices, "trust": parts["reliability"]}
    there |= {"answers": parts["answers"], "examples": f.examples}
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            f=f,
            name=name,
            about=about,
            command=command,
            policy=policy(style),
            style=style,
            verdict=f.decision.verdict if f.decision else "NONE",
            headline=verdict(f),
            summary=sentence(f),
            cards=cards(f),
            rules=[applied(f, rule, check) for rule, check in sorted(f.checks, key=lambda found: _urgency(found[1]))],
            waiting=[(rule, words.rule(rule, _unit(f, rule["metric"]))) for rule in f.waiting],
            quantiles=[
                words.percent(share) for share in (1 - f.confidence, _confidence(f), 2 * f.confidence - 1, f.confidence)
            ],
            temperature=f.report.manifest.config.get("sampled_temperature", "1"),
            asked=asked(f),
            sections={id: title.format(f.opponent) for id, title in SECTIONS.items() if there.get(id, True)},
            **parts,
        )
    )


def verdict(f: Findings) -> str:
    """May it go live? The answer, in a line."""
    return words.headline(f.decision.verdict if f.decision else None, f.decision.checks if f.decision else [])


def sentence(f: Findings) -> str:
    """What was compared with what, on how much, in a sentence or two."""
    missing = sum(gap.items for gap in f.gaps)
    gaps = f", of which {missing:,} could not be measured" if missing else ""
    items = f"{len(f.records):,} item records{gaps}" if f.records else f"{len(f.report.scores)} scores"
    this = f"Checkpoint {f.report.checkpoint_digest[:12]}, scored on {items}"
    if f.live is None:
        return f"{this}. Nothing was live before it, so there is nothing to compare it with."
    if f.live.checkpoint_digest == f.report.checkpoint_digest:
        return f"{this}. It is compared with itself."
    return f"{this}, item by item against checkpoint {f.live.checkpoint_digest[:12]}." if f.comparable else f"{this}."


def cards(f: Findings) -> list[Line]:
    """The few numbers a person looks at first: what fails, then what else the gate asks for, then the others."""
    return sorted(f.wholes, key=lambda line: min([_urgency(check) for _, check in line.checks], default=LAST))[:CARDS]


def _urgency(check: Check) -> int:
    """Failed rules first, optional ones after those that count."""
    return list(VERDICTS).index(check.verdict) + (0 if check.required else len(VERDICTS))


def asked(f: Findings) -> dict[str, str]:
    """Digests and settings, for whoever wants to check or repeat it."""
    manifest = f.report.manifest
    found = {"what was asked, digest": f.report.suites_digest}
    if f.live is not None:
        same = "the same" if f.comparable else f"{f.live.suites_digest}: another, so nothing can be compared"
        found["in the other report"] = same
    for suite, items in f.suites.items.items() if f.suites else ():
        entry = f.suites.manifest.files.get(f"{suite}.jsonl") if f.suites else None
        found[f"suite {suite}"] = f"{items:,} items, {entry.sha256 if entry else 'no file'}"
    found |= {"checkpoint": f.report.checkpoint_digest, "chat protocol": f.report.protocol_digest}
    found |= {"report": f.report.digest}
    if f.decision:
        found |= {"gate decision": f.decision.digest, "confidence of the gate": words.percent(f.confidence)}
    found |= {name.replace("_", " "): str(value) for name, value in manifest.config.items() if _is_plain(value)}
    return found


def _confidence(f: Findings) -> float:
    return float(f.report.manifest.config.get("confidence", 0.95))


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float)


def _grades(item: Item) -> str:
    """`✓ correct ✕ exact`, and numbers where a grade is more than yes or no."""
    said = {1.0: "✓\N{NO-BREAK SPACE}{}", 0.0: "✕\N{NO-BREAK SPACE}{}"}
    known = {name: value for name, value in item.grades.items() if value is not None}
    return "  ".join(said.get(value, f"{{}} {value:g}").format(name) for name, value in known.items())


def _probability(log_probability: float) -> str:
    share = math.exp(min(0.0, log_probability))
    return words.percent(share, 1) if share >= 0.001 else f"under {words.percent(0.001, 1)}"


def applied(f: Findings, rule: Rule, check: Check) -> dict[str, Any]:
    """A rule with what it asks, what was found, and, where it does not simply hold, why."""
    line = f.lines.get(check.metric)
    better = line.score.higher_is_better if line else True
    unit = _unit(f, check.metric)
    return {
        "check": check,
        "asks": words.rule(rule, unit),
        "found": words.found(check, unit, higher_is_better=better),
        "reason": "" if check.verdict == "PASS" else check.reason,
    }


def _unit(f: Findings, metric: str) -> words.Unit:
    return f.lines[metric].unit if metric in f.lines else words.NUMBER


@cache
def _environment() -> Environment:
    environment = html_environment().overlay()
    environment.filters = {
        **environment.filters,
        "brief": lambda text: shown(text, LONGEST_REASON),
        "grades": _grades,
        "probability": _probability,
        "verdict": lambda name: VERDICTS.get(name, name),
    }
    return environment
