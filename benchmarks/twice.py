"""Whole histories decided twice: by the arrays of `histories`, and by the gate's own code on item records."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import histories as arrays
from benchmarks.histories import ALPHA, MARGIN, Design, planned
from lifecycle.evaluation.evidence import Evidence, Share
from lifecycle.evaluation.power import Course, outcome
from lifecycle.evaluation.quantities import NO_BOUNDS, Mean
from lifecycle.evaluation.rules import Guard
from lifecycle.evaluation.verdicts import check_rules, verdict

HISTORIES = 60
LOOKS, DIFFERENCES = 4, (-0.02, 0.0)
CLUSTER, CHANGED = 4, 0.1
Pair = tuple[Evidence, Evidence]
"""The candidate's evidence and the live model's."""
Kind = tuple[Design, list[Course], Callable[[int, int, int], Pair]]
"""Two guards' courses by the arrays, and the same items as the gate sees them: (guard, history, look)."""


def same_as_the_gate(draw: np.random.Generator) -> dict[str, str]:
    """How the histories of every kind ended, both times alike; AssertionError where one differs."""
    kinds = {"pairs": _pairs, "gaps": _gaps, "clusters": _clusters, "bounded means": _bounded, "means": _means}
    found = {}
    for name, make in kinds.items():
        design, courses, evidence = make(draw)
        promoted, blocked, _ = outcome(courses, design.looks)
        for history in range(HISTORIES):
            expected = "PROMOTE" if promoted[history] else "BLOCK" if blocked[history] else "INCONCLUSIVE"
            said = _by_the_gate(design, history, evidence)
            assert said == expected, (name, history, said, expected)
        found[name] = f"{promoted.sum()} promoted, {blocked.sum()} blocked"
    return found


def _by_the_gate(design: Design, history: int, evidence: Callable[[int, int, int], Pair]) -> str:
    rules = [Guard(metric=str(n), margin=MARGIN, items=design.items) for n in range(len(DIFFERENCES))]
    earlier: list[Any] = []
    said = "INCONCLUSIVE"
    for look in range(design.looks):
        pairs = {rule.metric: evidence(n, history, look) for n, rule in enumerate(rules)}
        now: Mapping[str, Evidence] = {name: pair[0] for name, pair in pairs.items()}
        live: Mapping[str, Evidence] = {name: pair[1] for name, pair in pairs.items()}
        earlier = check_rules(rules, now, live, alpha=ALPHA, looks=design.looks, earlier=earlier)
        said = verdict(earlier)
        if said != "INCONCLUSIVE":
            break
    return said


def _answered(gained: int, lost: int, items: int, missing: tuple[int, int] = (0, 0)) -> tuple[Share, Share]:
    """Answers of candidate and live; `missing` ones of the candidate, where live is right and where it is wrong."""
    sides = [(True, False)] * gained + [(False, True)] * lost + [(None, True)] * missing[0]
    sides += [(None, False)] * missing[1]
    sides += [(True, True)] * (items - len(sides))
    named = {str(n): pair for n, pair in enumerate(sides)}
    return Share({i: now for i, (now, _) in named.items()}), Share({i: live for i, (_, live) in named.items()})


def _pairs(draw: np.random.Generator) -> Kind:
    design = planned(metrics=2, looks=LOOKS, spread=CHANGED**0.5)
    sides = [arrays.drawn(design, d, HISTORIES, draw, CHANGED) for d in DIFFERENCES]

    def evidence(guard: int, history: int, look: int) -> Pair:
        gained, lost = (int(n) for n in sides[guard][look, history, :2])
        return _answered(gained, lost, design.counts[look])

    return design, [arrays.judged(design, each) for each in sides], evidence


def _gaps(draw: np.random.Generator) -> Kind:
    design = planned(metrics=2, looks=LOOKS)
    sides = [arrays.with_gaps(design, d, 0.005, "at random", HISTORIES, draw) for d in DIFFERENCES]

    def evidence(guard: int, history: int, look: int) -> Pair:
        gained, lost, *missing = (int(n) for n in sides[guard][look, history])
        return _answered(gained, lost, design.counts[look], (missing[0], missing[1]))

    return design, [arrays.judged_with_gaps(design, each)[0] for each in sides], evidence


def _clusters(draw: np.random.Generator) -> Kind:
    design = Design(metrics=2, looks=LOOKS, items=planned(2, LOOKS, effect=1.6).items // 16 * 16)
    sides = [arrays.in_clusters(design, d, CLUSTER, 0.2, HISTORIES, draw) for d in DIFFERENCES]

    def evidence(guard: int, history: int, look: int) -> Pair:
        now, live, together = dict[str, bool | None](), dict[str, bool | None](), dict[str, str]()
        for number, (gained, lost) in enumerate(sides[guard][history, : design.counts[look] // CLUSTER]):
            for place in range(CLUSTER):
                item = f"{number}-{place}"
                now[item], live[item] = not gained <= place < gained + lost, place >= gained
                together[item] = str(number)
        return Share(now, together), Share(live, together)

    return design, [arrays.judged_clusters(design, each, CLUSTER)[0] for each in sides], evidence


def _of_scores(draw: np.random.Generator, *, bounded: bool) -> Kind:
    bounds = (-1.0, 1.0) if bounded else None
    design = planned(metrics=2, looks=LOOKS, spread=0.2, pairs=False, bounds=bounds)
    pool = -draw.gamma(1.0, 0.2, 100_000)
    pool = np.clip(pool - pool.mean(), -0.9, 0.9)
    changes = [arrays.picked(design, pool + d, HISTORIES, draw) for d in DIFFERENCES]

    def evidence(guard: int, history: int, look: int) -> Pair:
        some = changes[guard][history, : design.counts[look]].tolist()
        between = (0.0, 1.0) if bounded else NO_BOUNDS
        now = Mean({str(n): 0.5 + x / 2 for n, x in enumerate(some)}, bounds=between)
        return now, Mean({str(n): 0.5 - x / 2 for n, x in enumerate(some)}, bounds=between)

    return design, [arrays.judged_scores(design, each, MARGIN, bounded=bounded) for each in changes], evidence


def _bounded(draw: np.random.Generator) -> Kind:
    return _of_scores(draw, bounded=True)


def _means(draw: np.random.Generator) -> Kind:
    return _of_scores(draw, bounded=False)
