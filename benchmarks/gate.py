"""How often a gate errs: ours against its bars, and the rules in use elsewhere on the same models and items.

    python -m benchmarks.gate [--histories 4000] [--json FILE]

Five suites, margin 5 points each. Items are paired: live and candidate answer the same ones. Of a model equal to the
live one 30 % of answers change sides (two samples from models that are right 8 times of 10). Numpy, one core.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.histories import (
    ALPHA,
    CHANGED,
    MARGIN,
    Design,
    drawn,
    full_table,
    in_clusters,
    judged,
    judged_clusters,
    judged_scores,
    judged_with_gaps,
    picked,
    planned,
    with_gaps,
)
from benchmarks.peers import PEERS, Counts
from benchmarks.shapes import shapes
from benchmarks.twice import HISTORIES, same_as_the_gate
from lifecycle.evaluation.power import Course, outcome, pairs_show
from lifecycle.evaluation.statistics import quantile, tango_score

TRUTHS = {"equal": 0.0, "-2.5 on one": -0.025, "-5 on one": -0.05, "-10 on one": -0.10}
Rows = list[dict[str, Any]]


def of_truth(truth: float, metrics: int) -> list[float]:
    return [truth] + [0.0] * (metrics - 1)


def ours(design: Design, differences: Sequence[float], histories: int, draw: np.random.Generator) -> dict[str, float]:
    courses = [judged(design, drawn(design, difference, histories, draw)) for difference in differences]
    promoted, blocked, stops = outcome(courses, design.looks)
    return {
        "promoted": float(promoted.mean()),
        "blocked": float(blocked.mean()),
        "inconclusive": float(1 - promoted.mean() - blocked.mean()),
        "items": float(np.asarray(design.counts)[stops - 1].mean()),
    }


def bars(histories: int, draw: np.random.Generator) -> Rows:
    """Our gate, planned, and the peers at 200 items a suite and at the fixed-n plan."""
    fixed = planned(looks=1)
    rows: Rows = []
    for design, name in (
        (planned(looks=20), "ours, 20 looks"),
        (planned(looks=10), "ours, 10 looks"),
        (fixed, "ours, 1 look"),
    ):
        for words, truth in TRUTHS.items():
            found = ours(design, of_truth(truth, 5), histories, draw)
            rows.append({"table": "bars", "rule": name, "cap": design.items, "truth": words, **found})
    for items, (name, rule), (words, truth) in product((200, fixed.items), PEERS.items(), TRUTHS.items()):
        sides = np.stack([full_table(draw, items, t, histories) for t in of_truth(truth, 5)], axis=1)
        said = rule(Counts(sides, items, MARGIN, ALPHA))
        rates = {"promoted": said.promoted.mean(), "blocked": said.blocked.mean()}
        rates["inconclusive"] = 1 - rates["promoted"] - rates["blocked"]
        rows.append({"table": "bars", "rule": name, "cap": items, "truth": words, **rates, "items": items})
    for row in rows:
        row["of fixed"] = row["items"] / fixed.items
    return rows


def calibration(histories: int, draw: np.random.Generator) -> Rows:
    """Stated error rates against measured ones: a rule at its bar shown to hold, any of m equal metrics shown worse."""
    rows: Rows = []

    def add(cell: str, design: Design, at_bar: Course, at_live: list[NDArray[np.bool_]]) -> None:
        for error, stated, wrong in (
            ("held at its bar", ALPHA, at_bar.held < design.looks),
            ("any shown worse", 1 - (1 - ALPHA / design.metrics) ** design.metrics, np.any(at_live, axis=0)),
        ):
            rate = float(np.mean(wrong))
            row = {"table": "calibration", "cell": cell, "error": error, "stated": stated, "measured": rate}
            rows.append({**row, "2 se": 2 * math.sqrt(stated * (1 - stated) / histories)})

    def shown_worse(design: Design, sides: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Ever, whether or not the rule was shown to hold before: what Holm's correction is about."""
        harm = design.tails(ALPHA / design.metrics)
        return np.asarray(
            np.any(
                [pairs_show(s[:, 1], s[:, 0], n, 0.0, h) for n, s, h in zip(design.counts, sides, harm, strict=True)],
                axis=0,
            )
        )

    for metrics, looks in [(m, 20) for m in (1, 2, 5, 10, 20, 40)] + [(5, 1), (5, 5), (5, 10)]:
        design = planned(metrics, looks)
        at_bar = judged(design, drawn(design, -MARGIN, histories, draw))
        worse = [shown_worse(design, drawn(design, 0.0, histories, draw)) for _ in range(metrics)]
        add(f"{metrics} metrics, {looks} looks", design, at_bar, worse)
    for size, agree, changed in ((4, 0.2, CHANGED), (8, 0.3, CHANGED), (4, 0.2, 0.1), (8, 0.3, 0.1)):
        design = planned(spread=math.sqrt(changed), effect=1 + (size - 1) * agree)
        grouped = partial(in_clusters, size=size, agree=agree, histories=histories, draw=draw, changed=changed)
        at_bar = judged_clusters(design, grouped(design, -MARGIN), size)[0]
        worse = [judged_clusters(design, grouped(design, 0.0), size)[1] for _ in range(5)]
        add(
            f"clusters of {size}, correlation {agree}, {100 * changed:.0f} % change sides, 20 looks",
            design,
            at_bar,
            worse,
        )
    for whose in ("at random", "the lost"):
        design = planned()
        gaps = partial(with_gaps, share=0.05, whose=whose, histories=histories, draw=draw)
        at_bar = judged_with_gaps(design, gaps(design, -MARGIN))[0]
        worse = [judged_with_gaps(design, gaps(design, 0.0))[1] for _ in range(5)]
        add(f"5 % missing, {whose}, 20 looks", design, at_bar, worse)
    return rows


def missing(histories: int, draw: np.random.Generator) -> Rows:
    """Answers of the candidate that are missing: as the gate bounds them, and left out as others do.

    `at random` they are anybody's; `the lost` are items the candidate would have lost, as where it crashes on them.
    """
    rows: Rows = []
    for looks, share, whose, truth in product((1, 20), (0.01, 0.05), ("at random", "the lost"), (0.0, -MARGIN)):
        design = planned(looks=looks)
        sides = with_gaps(design, truth, share, whose, histories, draw)
        said, worse = judged_with_gaps(design, sides)
        left_out = np.zeros(histories, bool)
        for n, now, tail in zip(design.counts, sides, design.tails(ALPHA), strict=True):
            answered = n - now[:, 2:].sum(1)
            left_out |= tango_score(now[:, 0], now[:, 1], answered, -MARGIN) > quantile(tail)
        row = {"table": "missing", "missing": f"{100 * share:.0f} %, {whose}", "looks": looks}
        row |= {
            "candidate": "equal" if truth == 0 else "at the bar",
            "shown to hold": float((said.held < looks).mean()),
        }
        rows.append({**row, "shown worse": float(worse.mean()), "shown to hold, left out": float(left_out.mean())})
    return rows


def likelihoods(histories: int, draw: np.random.Generator) -> Rows:
    """The same loss seen in right and wrong, in the probability of the right answer, and in its logarithm."""
    rows: Rows = []
    for noise in (0.3, 1.0):
        easy = draw.normal(2.0, 1.5, 400_000)

        def answers(shift: float, easy: NDArray[Any] = easy, noise: float = noise) -> tuple[NDArray[Any], NDArray[Any]]:
            live, now = (easy + draw.normal(0, noise / math.sqrt(2), len(easy)) for _ in range(2))
            return 1 / (1 + np.exp(-live)), 1 / (1 + np.exp(-now - shift))

        low, high = -3.0, 0.0
        for _ in range(30):  # the shift that loses 5 points of right answers
            middle = (low + high) / 2
            live, now = answers(middle)
            low, high = (middle, high) if (now - live).mean() < -MARGIN else (low, middle)
        scales: dict[str, Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]] = {
            "right or wrong": lambda live, now: (draw.random(len(now)) < now) * 1.0 - (draw.random(len(live)) < live),
            "probability": lambda live, now: now - live,
            "log-probability": lambda live, now: np.log(now) - np.log(live),
        }
        first = 0
        for name, scale in scales.items():
            same, worse = scale(*answers(0.0)), scale(*answers(middle))
            margin = -float(worse.mean())
            # A guard on right and wrong is bounded as counts of sides, the others as means.
            bounded = name == "probability"
            design = planned(
                spread=float(same.std()) * MARGIN / margin,
                pairs=name == "right or wrong",
                bounds=(-MARGIN / margin, MARGIN / margin) if bounded else None,
            )
            first = first or design.items

            def judge(
                truth: float, pool: NDArray[Any], name: str = name, design: Design = design, margin: float = margin
            ) -> Course:
                if name == "right or wrong":
                    return judged(design, drawn(design, truth, histories, draw, float((pool != 0).mean())))
                changes = picked(design, pool, histories, draw)
                return judged_scores(design, changes, margin, bounded=name == "probability")

            same -= same.mean() if name != "right or wrong" else 0
            cells = {"equal": [same] * 5, "-5 on one": [worse] + [same] * 4}
            for words, pools in cells.items():
                truths = [-MARGIN if pool is worse else 0.0 for pool in pools]
                promoted, blocked, stops = outcome(
                    [judge(t, p) for t, p in zip(truths, pools, strict=True)], design.looks
                )
                row = {"table": "likelihoods", "noise": noise, "score": name, "margin": margin, "cap": design.items}
                row |= {"of right or wrong": design.items / first, "truth": words, "promoted": float(promoted.mean())}
                row |= {"blocked": float(blocked.mean()), "items": float(np.asarray(design.counts)[stops - 1].mean())}
                rows.append(row)
            at_bar = judge(-MARGIN, worse)
            rows[-1]["held at its bar"] = float((at_bar.held < design.looks).mean())
            rows[-2]["held at its bar"] = "stated 5 %"
    return rows


def small(_: int, __: np.random.Generator) -> Rows:
    """Exact, not simulated: the worst rate at which a guard at its bar is shown to hold, whatever changes sides."""
    rows: Rows = []
    for items in (20, 53, 60, 100, 150):
        lost, gained = np.meshgrid(np.arange(items + 1), np.arange(items + 1), indexing="ij")
        fits = lost + gained <= items
        lost, gained = lost[fits], gained[fits]
        score = tango_score(gained, lost, items, -MARGIN) > quantile(ALPHA)
        exact = pairs_show(gained, lost, items, -MARGIN, ALPHA)
        logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, items + 1)))])
        ways = logs[items] - logs[lost] - logs[gained] - logs[items - lost - gained]
        worst = {"score bound": 0.0, "ours": 0.0}
        for share in np.linspace(MARGIN, 0.5, 91):
            parts = (share, share - MARGIN, 1 - 2 * share + MARGIN)
            with np.errstate(divide="ignore", invalid="ignore"):
                terms = [
                    np.where(k > 0, k * np.log(p), 0.0)
                    for k, p in zip((lost, gained, items - lost - gained), parts, strict=True)
                ]
            weight = np.exp(ways + sum(terms))
            worst["score bound"] = max(worst["score bound"], float(weight[score].sum()))
            worst["ours"] = max(worst["ours"], float(weight[exact].sum()))
        rows.append({"table": "small", "items": items, "stated": ALPHA, **worst})
    return rows


def show(rows: Rows) -> None:
    """One Markdown table for each kind of row."""
    for table in dict.fromkeys(row["table"] for row in rows):
        some = [{k: v for k, v in row.items() if k != "table"} for row in rows if row["table"] == table]
        print("\n| " + " | ".join(some[0]) + " |\n" + "|---" * len(some[0]) + "|")
        for row in some:
            print("| " + " | ".join(_cell(name, value) for name, value in row.items()) + " |")


def _cell(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if name in ("noise", "margin", "of fixed", "of right or wrong"):
        return f"{value:.3g}"
    return f"{value:,.0f}" if name.endswith("items") else f"{100 * value:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    draw, started = np.random.default_rng(options.seed), time.monotonic()
    for kind, said in same_as_the_gate(draw).items():
        print(f"{HISTORIES} histories of {kind} decided alike by this program and by the gate's own code: {said}")
    rows: Rows = []
    for part in (bars, calibration, missing, likelihoods, small):
        rows += part(options.histories, draw)
    rows += shapes(options.histories, np.random.default_rng(options.seed + 1))
    show(rows)
    print(f"\n{options.histories} histories a cell, {time.monotonic() - started:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
