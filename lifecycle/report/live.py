"""What a person sees while a run works: which stage, how far, how long still. On a terminal a screen, else lines."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lifecycle import sealing
from lifecycle.errors import DamagedArtifact
from lifecycle.progress import Progress
from lifecycle.report.key_numbers import duration
from lifecycle.store import Store

PLAIN_SECONDS = 5.0  # between two lines of one stage in a log file
PLAIN = "LIFECYCLE_PLAIN"  # set: lines even on a terminal
TRUSTED_SHARE = 0.02  # below it, the seconds an earlier run took are the better guess


def expected_seconds(store: Store, plan: Sequence[str], typical: Mapping[str, float]) -> dict[str, float]:
    """Seconds each stage takes when it is made: what it last took in this store, else the recipe's guess."""
    expected = {stage: typical[stage] for stage in plan if stage in typical}
    for stage in plan:
        manifests = list((store.root / "artifacts" / stage).glob(f"*/{sealing.MANIFEST}"))
        if manifests:
            newest = max(manifests, key=lambda path: path.stat().st_mtime)
            try:
                expected[stage] = sealing.read_manifest(newest.parent).seconds
            except DamagedArtifact:  # the store will say so when the stage is asked for
                continue
    return expected


@dataclass(frozen=True)
class Measured:
    """How far a stage is, and how fast since it began to count: a start-up of 20 s says nothing of its speed."""

    elapsed: float = 0.0
    share: float = 0.0
    counted_share: float = 0.0
    counted_seconds: float = 0.0

    def left(self) -> float | None:
        """Seconds until the stage ends at the speed so far; None while too little is done to tell."""
        if self.counted_share < TRUSTED_SHARE:
            return None
        return self.counted_seconds * (1 - self.share) / self.counted_share


class Estimate:
    """How long a run still needs: expected seconds, corrected by how fast this machine has been so far."""

    def __init__(self, plan: Sequence[str], expected: Mapping[str, float]) -> None:
        self.plan = list(plan)
        self.expected = dict(expected)
        self.took: dict[str, float] = {}
        self.reused: set[str] = set()

    @property
    def pace(self) -> float:
        """Seconds needed per second expected, over the stages made so far; kept between 1/4 and 4."""
        known = [name for name in self.took if name not in self.reused and self.expected.get(name, 0) > 0]
        expected = sum(self.expected[name] for name in known)
        return min(4.0, max(0.25, sum(self.took[name] for name in known) / expected)) if expected > 1 else 1.0

    def stage_left(self, stage: str, at: "Measured") -> float | None:
        """Seconds until the stage ends; None when nothing is known."""
        if (left := at.left()) is not None:
            return left
        expected = self.expected.get(stage)
        return None if expected is None else max(0.0, expected * self.pace - at.elapsed)

    def run_left(self, current: str | None, at: "Measured") -> float | None:
        """Seconds until the run ends; None when a stage to come was never timed."""
        coming = [name for name in self.plan if name not in self.took and name != current]
        now = self.stage_left(current, at) if current else 0.0
        if now is None or any(name not in self.expected for name in coming):
            return None
        return now + self.pace * sum(self.expected[name] for name in coming)


class Display:
    """Shows a run. A context; `stage_begins`, `progressed` and `stage_ends` are called by whoever runs stages."""

    def __init__(self, plan: Sequence[str], expected: Mapping[str, float], stream: TextIO | None = None) -> None:
        self.console = Console(file=stream or sys.stderr, highlight=False)
        self.estimate = Estimate(plan, expected)
        self.outcome: dict[str, str] = {}
        self.notes: list[str] = []
        self.current: str | None = None
        self._at = Progress(0, 0, "")
        self._began = self._run_began = time.monotonic()
        self._counting_from = self._began, 0.0
        self._last_line = 0.0
        self._live: Live | None = None
        if self.console.is_terminal and not os.environ.get(PLAIN):
            self._live = Live(get_renderable=self.screen, console=self.console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Display":
        self._run_began = time.monotonic()
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def stage_begins(self, stage: str) -> None:
        plan = self.estimate.plan
        if stage not in plan:  # a stage only some runs need, such as scoring the live release again
            plan.insert(plan.index(self.current) + 1 if self.current in plan else len(self.outcome), stage)
        self.current, self._at, self._began, self._last_line = (
            stage,
            Progress(0, 0, ""),
            time.monotonic(),
            time.monotonic(),
        )

    def progressed(self, at: Progress) -> None:
        now = time.monotonic()
        if (at.unit, at.total) != (self._at.unit, self._at.total):  # it counts something else now
            self._counting_from = now, at.share
        self._at = at
        if self._live is None and now - self._last_line >= PLAIN_SECONDS:
            self._last_line = now
            self.console.print(f"{self._heading()}  {self._how_far()}", soft_wrap=True, markup=False)

    def stage_ends(self, stage: str, *, reused: bool, seconds: float, number: str, notes: Sequence[str] = ()) -> None:
        self.estimate.took[stage] = seconds
        if reused:
            self.estimate.reused.add(stage)
        self.outcome[stage] = number
        how = "reused" if reused else f"made in {duration(seconds)}"
        if self._live is None:
            self.console.print(f"{self._heading()}  {how}: {number}", soft_wrap=True, markup=False)
        self.current = None
        for note in notes:
            self.say(f"{stage}: {note}")

    def say(self, text: str) -> None:
        """One sentence that must not scroll away."""
        if self._live and self._live.is_started:
            self.notes.append(text)
        else:
            self.console.print(text, soft_wrap=True, markup=False)

    def screen(self) -> RenderableType:
        """The whole display at this moment."""
        table = Table.grid(padding=(0, 2))
        table.add_column(width=1)
        table.add_column()
        table.add_column(width=24)
        table.add_column(justify="right", width=8)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for stage in self.estimate.plan:
            table.add_row(*self._row(stage))
        lines: list[RenderableType] = [table, Text(self._summary(), style="bold")]
        lines += [Text(note, style="yellow") for note in self.notes[-5:]]
        return Group(*lines)

    def _row(self, stage: str) -> tuple[RenderableType, ...]:
        if stage in self.outcome:
            reused = stage in self.estimate.reused
            how = Text("reused", style="dim") if reused else Text("made", style="green")
            seconds = "" if reused else duration(self.estimate.took[stage])
            return Text("✓", style="green"), stage, how, seconds, Text(self.outcome[stage], style="dim")
        if stage == self.current:
            elapsed = time.monotonic() - self._began
            bar = ProgressBar(
                total=1.0, completed=self._at.share, width=24, pulse=self._at.total <= 0, animation_time=elapsed
            )
            return Text("▸", style="bold cyan"), Text(stage, style="bold"), bar, duration(elapsed), self._how_far()
        expected = self.estimate.expected.get(stage)
        guess = "" if expected is None else f"~{duration(expected * self.estimate.pace)}"
        return "", Text(stage, style="dim"), "", Text(guess, style="dim"), ""

    def _measured(self) -> Measured:
        now, (since, share) = time.monotonic(), self._counting_from
        return Measured(now - self._began, self._at.share, self._at.share - share, now - since)

    def _how_far(self) -> str:
        at = self._at
        left = self.estimate.stage_left(self.current or "", self._measured())
        parts = [f"{at.share:4.0%} of {at.total:,.0f} {at.unit}"] if at.total > 0 else []
        parts += [f"{duration(left)} left"] if left is not None else []
        return ", ".join([*parts, *([at.note] if at.note else [])])

    def _heading(self) -> str:
        done, plan = len(self.outcome), self.estimate.plan
        number = plan.index(self.current) + 1 if self.current in plan else done
        return f"[{number}/{len(plan)}] {self.current}"

    def _summary(self) -> str:
        now = time.monotonic()
        plan = self.estimate.plan
        left = self.estimate.run_left(self.current, self._measured())
        where = (
            f"stage {plan.index(self.current) + 1} of {len(plan)}"
            if self.current in plan
            else f"{len(self.outcome)} of {len(plan)} stages"
        )
        so_far = f"{where}, {duration(now - self._run_began)} so far"
        return so_far if left is None else f"{so_far}, about {duration(left)} to go"
