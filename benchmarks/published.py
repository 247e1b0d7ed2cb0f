"""What the fault bench publishes of its cases: shares with exact intervals, the confusion, calibration, and what is not
measured. Numbers in, tables out: nothing is run here.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.faults import FAULTS, Fault
from lifecycle.diagnosis.readings import PROBLEMS
from lifecycle.diagnosis.verdict import HEALTHY
from lifecycle.evaluation.statistics import clopper_pearson

TAIL = 0.025
HALVES = ("tuning", "held out", "new")
ANSWERS = (*PROBLEMS, HEALTHY)
BINS = (0.0, 0.5, 0.7, 0.9, 1.01)  # of what was said; wide, for there are dozens of cases and not thousands

Row = dict[str, Any]


def share(hits: int, of: int) -> str:
    """A share with its exact interval of 95 % (Clopper and Pearson 1934)."""
    if not of:
        return "UNMEASURED: none run"
    interval = clopper_pearson(hits, of, tail=TAIL)
    return f"{hits}/{of} = {hits / of:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def shares(rows: Sequence[Row]) -> dict[str, str]:
    """How often the diagnosis is right, by half of the bench; the bars of the page are about these."""
    found = {}
    for half in HALVES:
        mine = [row for row in rows if row["half"] == half and row["problem"] != HEALTHY]
        found[f"{half}, first"] = share(sum(r["first"] == r["problem"] for r in mine), len(mine))
        found[f"{half}, first two"] = share(sum(r["problem"] in (r["first"], r["second"]) for r in mine), len(mine))
        found[f"{half}, stage"] = share(sum(r["stage"] in r["stages"] for r in mine), len(mine))
    for half in HALVES:
        mine = [row for row in rows if row["half"] == half and row["problem"] == HEALTHY]
        found[f"{half}, healthy accused"] = share(sum(row["first"] != HEALTHY for row in mine), len(mine))
    return found


def confusion(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Planted problem -> problem named first -> how often."""
    told = Counter((row["problem"], row["first"]) for row in rows)
    return {planted: {named: told[planted, named] for named in ANSWERS} for planted in ANSWERS}


def calibration(rows: Sequence[Row]) -> list[Row]:
    """How often the first answer was right where it said it was so likely."""
    found = []
    for low, high in pairwise(BINS):
        mine = [row for row in rows if low <= row["probability"] < high]
        if mine:
            said = sum(row["probability"] for row in mine) / len(mine)
            right = share(sum(row["first"] == row["problem"] for row in mine), len(mine))
            found.append({"from": low, "to": min(high, 1.0), "said": round(said, 3), "right": right})
    return found


def unmeasured(rows: Iterable[Row], seeds: Sequence[int]) -> dict[str, list[str]]:
    """Seed -> planned faults that were not run with it."""
    have = {(row["fault"], row["seed"]) for row in rows}
    missing = {seed: [_named(fault) for fault in FAULTS if (fault.name, seed) not in have] for seed in seeds}
    return {str(seed): names for seed, names in missing.items() if names}


def brought_back(rows: Sequence[Row]) -> dict[str, str]:
    """Of what the faults cost, how much the first change brought back; what a program did and what a hand did apart."""
    found = {}
    for how, by_hand in (("with its settings", False), ("by hand, its stage as in the healthy run", True)):
        mine = [row for row in rows if row["by_hand"] == by_hand]
        lost = sum(row["healthy"] - row["faulty"] for row in mine)
        back = sum(min(row["mended"], row["healthy"]) - row["faulty"] for row in mine)
        found[how] = f"{back / lost:.1%} of what {len(mine)} faults cost" if mine else "UNMEASURED: none run"
    return found


def markdown(data: Row) -> str:
    """The tables of docs/diagnosis.md."""
    shown = data["confusion"]
    told = [
        [planted.replace("_", " "), *(shown[planted][named] or "" for named in ANSWERS)]
        for planted in ANSWERS
        if any(shown[planted].values())
    ]
    said = [[f"{b['from']:.1f} to {b['to']:.1f}", f"{b['said']:.2f}", b["right"]] for b in data["calibration"]]
    parts = [
        _table(
            ("planted", "half", "seed", "ended", "greedy, sampled exact", "named first", "stage", "back"), _cases(data)
        ),
        _list(data["shares"]),
        "Planted (down) and named first (across):",
        _table(("", *(name.replace("_", " ") for name in ANSWERS)), told),
        "How likely the first answer was said to be, and how often it was right:",
        _table(("said", "on average", "right"), said),
        "Seconds of a diagnosis:",
        _list(data["seconds"]),
        "What the first change brought back:",
        _list(data.get("back", {"all": "UNMEASURED: not run"})),
        "UNMEASURED: " + ("; ".join(_gaps(data)) or "nothing"),
    ]
    return "\n\n".join(parts) + "\n"


def _cases(data: Row) -> list[list[Any]]:
    back = {
        (row["fault"], row["seed"]): f"{row['back']:.0%}{' by hand' * row['by_hand']}" for row in data.get("mended", ())
    }
    lines = []
    for row in data["cases"]:
        first = f"{row['first'].replace('_', ' ')} {row['probability']:.2f}"
        named = first if row["first"] == row["problem"] else f"**{first}**, then {row['second'].replace('_', ' ')}"
        lines.append(
            [
                f"{row['problem'].replace('_', ' ')}: {row['fault']}",
                row["half"],
                row["seed"],
                row["state"].lower(),
                ", ".join(f"{value:.2f}" for value in row["scores"].values()) or "not evaluated",
                named,
                row["stage"] or "",
                back.get((row["fault"], row["seed"]), ""),
            ]
        )
    return lines


def _gaps(data: Row) -> list[str]:
    """What was planned and not run, in words."""
    gaps = [
        f"seed {seed}: " + ("all of it" if len(names) == len(FAULTS) else ", ".join(names))
        for seed, names in data["unmeasured"].items()
    ]
    return [*gaps, *(f"mending {name}" for name in data.get("not_mended", ()))]


def _named(fault: Fault) -> str:
    return f"{fault.problem.replace('_', ' ')}: {fault.name}"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _list(named: dict[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in named.items())
