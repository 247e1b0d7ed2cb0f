"""The memory plan for people and for programs: what a rank holds and when, and which ways of running fit."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from lifecycle.model.fitting import GIB, Option, settings_of
from lifecycle.model.host import OUTSIDE_OF_TENSORS, Node, host_moments, host_peak
from lifecycle.model.machine import Device
from lifecycle.model.memory import OUTSIDE, moments, peak
from lifecycle.model.states import PARTS, Moment, Run


def plan(run: Run, found: Sequence[Option], *, available: int, device: Device, generated: Moment) -> dict[str, Any]:
    """The plan as data: the run as it is set, moment by moment, and every option that was looked at."""
    needed, usable = peak(run), available - OUTSIDE[device]
    best = found[0] if found and found[0].fits else None
    return {
        "available_bytes": available,
        "usable_bytes": usable,
        "ranks": run.ranks,
        "as_set": {
            "fits": needed.total <= usable,
            "peak_bytes": needed.total,
            "peak_at": needed.name,
            "moments": [
                {"name": moment.name, "total": moment.total, **{part: getattr(moment, part) for part in PARTS}}
                for moment in (*moments(run), generated)
            ],
        },
        "fastest": None if best is None else settings_of(best),
        "options": [_row(option, usable, found) for option in found],
    }


def host(run: Run, node: Node, *, available: int | None) -> dict[str, Any]:
    """What the ranks of one machine hold in its own memory; None: it is not known how much that is."""
    most = host_peak(run, node)
    total = most.of_node(node.ranks)
    return {
        "ranks": node.ranks,
        "available_bytes": available,
        "fits": None if available is None else total <= available,
        "peak_bytes": total,
        "peak_at": most.name,
        "outside_bytes_of_a_rank": OUTSIDE_OF_TENSORS,
        "moments": [
            {"name": one.name, "each": one.each, "first": one.first, "total": one.of_node(node.ranks)}
            for one in host_moments(run, node)
        ],
    }


def screen(data: dict[str, Any]) -> RenderableType:
    """The plan as two tables and a sentence."""
    as_set, usable = data["as_set"], data["usable_bytes"]
    outside = (data["available_bytes"] - usable) / GIB
    held = Table(
        title=f"GiB on each of {data['ranks']} ranks, as set; {usable / GIB:.1f} usable "
        f"({data['available_bytes'] / GIB:.1f} less {outside:.1f} outside of torch's allocator)",
        title_justify="left",
    )
    held.add_column("moment")
    for part in (*PARTS, "total", ""):
        held.add_column(part, justify="right" if part else "left")
    for moment in as_set["moments"]:
        sizes = (f"{moment[part] / GIB:.2f}" if moment[part] else "" for part in (*PARTS, "total"))
        largest = moment["name"] == as_set["peak_at"]
        mark = ("largest" if as_set["fits"] else "does not fit") if largest else ""
        held.add_row(moment["name"], *sizes, mark, style="bold" if largest else "")
    ways = Table(
        title="Ways to run it, fastest first; of equally fast ones the one that needs least", title_justify="left"
    )
    for column in (
        "ZeRO",
        "checkpointing",
        "rows at once",
        "peak GiB",
        "estimated step",
        "why not more, or not at all",
    ):
        ways.add_column(column, justify="left" if column.startswith(("check", "why")) else "right")
    for row in _best_of_each(data["options"]):
        step = f"{row['seconds']:.2f} s" if row["fits"] else ""
        cells = (str(row["zero"]), "yes" if row["checkpointing"] else "no", str(row["rows"]))
        ways.add_row(*cells, f"{row['peak_bytes'] / GIB:.1f}", step, row["why"])
    said = "No setting fits: more ranks, a smaller model or shorter rows."
    if data["fastest"]:
        said = "Fastest that fits: " + " ".join(f"--set {setting}" for setting in data["fastest"].split())
    return Group(held, "", *([_host_screen(data["host"]), ""] if "host" in data else []), ways, "", said)


def _host_screen(data: dict[str, Any]) -> RenderableType:
    """What is in host memory as a table."""
    outside = data["outside_bytes_of_a_rank"] / GIB
    there = "" if data["available_bytes"] is None else f"; it has {data['available_bytes'] / GIB:.1f}"
    title = f"GiB of host memory of a machine with {data['ranks']} ranks, {outside:.0f} outside of tensors each{there}"
    table = Table(title=title, title_justify="left")
    for column in ("moment", "of each rank", "of the first besides", "of the machine", ""):
        table.add_column(column, justify="left" if column in ("moment", "") else "right")
    for moment in data["moments"]:
        largest = moment["name"] == data["peak_at"]
        mark = ("does not fit" if data["fits"] is False else "largest") if largest else ""
        sizes = (f"{moment[part] / GIB:.2f}" if moment[part] else "" for part in ("each", "first", "total"))
        table.add_row(moment["name"], *sizes, mark, style="bold" if largest else "")
    return table


def _row(option: Option, usable: int, found: Sequence[Option]) -> dict[str, Any]:
    run = option.run
    row = {
        "zero": run.zero.stage,
        "checkpointing": run.checkpointing,
        "rows": run.work.rows,
        "peak_bytes": option.peak.total,
        "peak_at": option.peak.name,
        "seconds": round(option.seconds, 4),
        "fits": option.fits,
    }
    return {**row, "why": _why(option, usable, found)}


def _why(option: Option, usable: int, found: Sequence[Option]) -> str:
    """What keeps an option, or the next larger micro batch of it, from fitting."""
    too_large = option
    if option.fits:
        same = (option.run.zero.stage, option.run.checkpointing)
        larger = [
            other
            for other in found
            if (other.run.zero.stage, other.run.checkpointing) == same and other.run.work.rows > option.run.work.rows
        ]
        if not larger:
            return "all rows of the rank at once"
        too_large = min(larger, key=lambda other: other.run.work.rows)
        if too_large.fits:
            return "more rows fit too, and are no faster"
    if too_large.peak.total <= usable:
        return f"{too_large.host_lacks / GIB:.1f} GiB too many in the host memory of a machine"
    part = max(PARTS, key=lambda name: getattr(too_large.peak, name))
    over, held = (too_large.peak.total - usable) / GIB, getattr(too_large.peak, part) / GIB
    rows = f"{too_large.run.work.rows} rows: " if option.fits else ""
    return f"{rows}{over:.1f} GiB too many at {too_large.peak.name!r}, {held:.1f} of all are {part}"


def _best_of_each(options: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every ZeRO stage and checkpointing choice the fastest that fits, or else the smallest."""
    chosen: dict[tuple[int, bool], dict[str, Any]] = {}
    for row in options:
        key = (row["zero"], row["checkpointing"])
        before = chosen.get(key)
        smaller = before is not None and not row["fits"] and row["peak_bytes"] < before["peak_bytes"]
        if before is None or (smaller and not before["fits"]):
            chosen[key] = row
    return sorted(chosen.values(), key=lambda row: (not row["fits"], row["seconds"]))
