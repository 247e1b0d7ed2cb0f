"""What differs between a run and another one, stage by stage, and which stages can therefore be the cause.

Two runs share artifacts: a stage that made the same bytes in both cannot be why one is worse. Where `flows.ablate` has
swapped stages between the two, its measured effects say how much of the difference each of the others carries.
"""

import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from lifecycle import ablation
from lifecycle.ablation import Recorded
from lifecycle.diagnosis.readings import Answer, Reading
from lifecycle.diagnosis.records import Records
from lifecycle.errors import DamagedArtifact, InputError
from lifecycle.evaluation.evidence import difference
from lifecycle.evaluation.metrics import measured
from lifecycle.runs import all_runs
from lifecycle.sealing import Artifact, Manifest, StageConfig

CONFIDENCE = 0.95
GOOD = ("RELEASED", "AWAITING_APPROVAL", "COMPLETED")
JUDGES = ("evaluate", "gate")
"""Stages whose artifact differs whenever the candidate does: what they did is the same where they do the same."""
ASIDE = ("evaluate_live", "evaluate_base", "release")
"""What a run has or has not because of how it ended, and what it was compared with: no part of how it was made."""


class StagePair(BaseModel):
    """A stage of both runs: the diagnosed run's first in every pair. None is a stage that was not made."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str
    kinds: tuple[str | None, str | None]
    digests: tuple[str | None, str | None]
    seconds: tuple[float | None, float | None]
    facts: tuple[dict[str, Any], dict[str, Any]]
    settings: dict[str, tuple[Any, Any]] = Field(description="Fields of the configuration in which they differ.")
    code: tuple[str, ...] = Field(description="Source files of the stage that changed between the two.")
    inputs: tuple[str, ...] = Field(description="Kinds of the inputs that are other artifacts.")
    raw: bool = Field(description="Other bytes from the same settings, code and inputs: its raw files were changed.")

    @property
    def same(self) -> bool:
        return self.digests[0] is not None and self.digests[0] == self.digests[1]

    @property
    def by_itself(self) -> bool:
        """Whether more differs than what it was made from."""
        return not self.same and bool(self.settings or self.code or self.raw or None in self.digests)


class Moved(BaseModel):
    """A metric of both runs: this run minus the other, with its interval; a fault says why there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    metric: str
    values: tuple[float | None, float | None]
    difference: float | None
    low: float | None
    high: float | None
    fault: str | None
    higher_is_better: bool

    @property
    def is_worse(self) -> bool:
        """Whether the interval shows that this run lost."""
        if self.low is None or self.high is None:
            return False
        return self.high < 0 if self.higher_is_better else self.low > 0


class Swap(BaseModel):
    """What `flows.ablate` measured between the two runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    run: str = Field(description="The run that measured it.")
    sentences: tuple[str, ...]
    metric: str | None = Field(description="The metric that moved most.")
    shares: dict[str, float] = Field(description="By stage, the share of that metric's difference it carries, 0 to 1.")


class Plan(BaseModel):
    """What the stage swap would cost: never started by a diagnosis."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    command: str
    remade: tuple[str, ...] = Field(description="Stages made again, as many times as they are.")
    evaluations: int
    seconds: float


class Comparison(BaseModel):
    """Two runs side by side, and what follows for the cause."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    run: str
    against: str
    stages: tuple[StagePair, ...]
    scores: tuple[Moved, ...]
    incomparable: str | None = Field(description="Why no score can be compared.")
    is_worse: bool = Field(
        description="Whether the diagnosed run is the worse one: only then can anything be ruled out."
    )
    swap: Swap | None
    plan: Plan | None
    no_plan: str | None = Field(description="Why no stage can be swapped between the two.")

    @property
    def suspects(self) -> list[StagePair]:
        """Stages that differ by themselves: one of them is the cause."""
        return [pair for pair in self.stages if pair.by_itself]

    def rules_out(self, stage: str) -> str | None:
        """Why a stage cannot be the cause of the difference; None where it can."""
        pair = next((pair for pair in self.stages if pair.stage == stage), None)
        if pair is None or not self.is_worse:
            return None
        if pair.same:
            return f"{stage} is the same artifact in {self.against}"
        suites_differ = any(other.stage == "suites" and not other.same for other in self.stages)
        if stage in JUDGES and not pair.by_itself and not suites_differ:
            return f"{stage} did the same in {self.against}"
        return None


def compare(run: Records, other: Records) -> Comparison:
    """Everything in which a run differs from another one of the same store."""
    made = dict.fromkeys([*run.manifests, *other.manifests])
    stages = tuple(_pair(stage, run, other) for stage in made if stage not in ASIDE)
    scores, incomparable = _moved(run, other)
    plan, no_plan = _plan(run, other)
    return Comparison(
        run=run.run.name,
        against=other.run.name,
        stages=stages,
        scores=scores,
        incomparable=incomparable,
        is_worse=(other.state in GOOD and run.state not in GOOD) or any(one.is_worse for one in scores),
        swap=_swap(run, other),
        plan=plan,
        no_plan=no_plan,
    )


def weighed(answers: Sequence[Answer], found: Comparison) -> list[Answer]:
    """The answers of probes, with what the comparison says against them: nothing for a stage that is ruled out, and
    a share for one whose swap was measured."""
    return [_weighed(answer, found) if isinstance(answer, Reading) else answer for answer in answers]


def _weighed(reading: Reading, found: Comparison) -> Reading:
    if not reading.strength:
        return reading
    if why := found.rules_out(reading.stage):
        return reading.model_copy(update={"strength": 0.0, "says": f"{reading.says}; not the cause: {why}"})
    if found.swap is None or reading.stage not in found.swap.shares:
        return reading
    share = found.swap.shares[reading.stage]
    says = f"{reading.says}; swapping {reading.stage} moves {share:.0%} of {found.swap.metric}"
    return reading.model_copy(update={"strength": round(reading.strength * share, 4), "says": says})


def _pair(stage: str, run: Records, other: Records) -> StagePair:
    mine, theirs = run.manifests.get(stage), other.manifests.get(stage)
    both = (mine, theirs)
    settings = [dict(ablation.flat(manifest.config)) if manifest else {} for manifest in both]
    asked = dict.fromkeys([*settings[0], *settings[1]])
    changed = {name: (settings[0].get(name), settings[1].get(name)) for name in asked} if mine and theirs else {}
    changed = {name: pair for name, pair in changed.items() if pair[0] != pair[1]}
    code = _other_code(mine, theirs) if mine and theirs else ()
    inputs = _other_inputs(mine, theirs) if mine and theirs else ()
    alike = mine is not None and theirs is not None and not (changed or code or inputs)
    return StagePair(
        stage=stage,
        kinds=tuple(m.kind if m else None for m in both),
        digests=tuple(m.digest if m else None for m in both),
        seconds=tuple(m.seconds if m else None for m in both),
        facts=tuple(m.facts if m else {} for m in both),
        settings=changed,
        code=code,
        inputs=inputs,
        raw=bool(alike and mine and theirs and mine.digest != theirs.digest),
    )


def _other_code(mine: Manifest, theirs: Manifest) -> tuple[str, ...]:
    files = sorted({*mine.source, *theirs.source})
    return tuple(file for file in files if mine.source.get(file) != theirs.source.get(file))


def _other_inputs(mine: Manifest, theirs: Manifest) -> tuple[str, ...]:
    known = {entry.digest for entry in theirs.inputs}
    return tuple(dict.fromkeys(entry.kind for entry in mine.inputs if entry.digest not in known))


def _moved(run: Records, other: Records) -> tuple[tuple[Moved, ...], str | None]:
    """Every whole metric of the two evaluations, slices left out."""
    if run.report is None or other.report is None:
        return (), f"{(run if run.report is None else other).run.name} was not evaluated"
    if run.report.suites_digest != other.report.suites_digest:
        return (), "the two were asked other items, or in another way"
    try:
        mine, theirs = measured(run.items), measured(other.items)
    except DamagedArtifact as error:
        return (), str(error)
    alike = run.report.checkpoint_digest == other.report.checkpoint_digest
    names = [name for name in run.report.scores if name in mine and name in theirs]
    wholes = [name for name in names if not any(name.startswith(f"{one}.") for one in names)]
    moved = []
    for name in wholes:
        found = difference(mine[name], theirs[name], same_model=alike)
        low, high = (None, None) if found.fault else found.interval(1 - CONFIDENCE)
        moved.append(
            Moved(
                metric=name,
                values=(mine[name].value, theirs[name].value),
                difference=found.value,
                low=low,
                high=high,
                fault=found.fault,
                higher_is_better=mine[name].higher_is_better,
            )
        )
    return tuple(moved), None


def _swap(run: Records, other: Records) -> Swap | None:
    """The newest finished stage swap of exactly these two runs."""
    for ablate in all_runs(run.store):
        try:
            found = json.loads((ablate.folder / "ablation.json").read_bytes())
        except (OSError, ValueError):
            continue
        if (found.get("good"), found.get("bad")) == (other.run.name, run.run.name):
            metric, shares = _shares(found.get("effects", ()))
            return Swap(run=ablate.name, sentences=tuple(found.get("accounted", ())), metric=metric, shares=shares)
    return None


def _shares(effects: Sequence[Mapping[str, Any]]) -> tuple[str | None, dict[str, float]]:
    """Of the metric that moved most: what share of it each stage carries. Only where something was shown to move."""
    steps: dict[str, dict[str, float]] = {}
    shown: dict[str, float] = {}
    for effect in effects:
        if effect["stage"] != "all" and effect["value"] is not None:
            steps.setdefault(effect["metric"], {})[effect["stage"]] = effect["value"]
            if effect["is_shown"]:
                shown[effect["metric"]] = max(shown.get(effect["metric"], 0.0), abs(effect["value"]))
    if not shown:
        return None, {}
    metric = max(shown, key=shown.__getitem__)
    total = sum(steps[metric].values())
    return metric, {stage: max(0.0, min(1.0, value / total)) for stage, value in steps[metric].items()} if total else {}


class _Glance(Recorded):
    """A recorded run whose artifacts are known by their digests: planning reads and verifies no bytes."""

    def artifact(self, stage: str) -> Artifact:
        return cast("Artifact", SimpleNamespace(digest=self.manifests[stage].digest))


def _plan(run: Records, other: Records) -> tuple[Plan | None, str | None]:
    """The command that swaps stages, and its cost: what `flows.ablate` will make, rung by rung."""
    good, bad = _Glance(other.store, other.run), _Glance(run.store, run.run)
    try:
        differs = list(ablation.differences(good, bad))
    except (InputError, DamagedArtifact, OSError) as error:
        return None, str(error)
    if not differs:
        return None, "no stage differs by itself"
    remade: list[str] = []

    def remake(stage: str, _config: StageConfig, inputs: list[Artifact]) -> Artifact:
        remade.append(stage)
        return cast("Artifact", SimpleNamespace(digest=f"{stage} of {[each.digest for each in inputs]}"))

    configs = cast("Mapping[str, StageConfig]", dict.fromkeys(bad.inputs))
    for stage in differs[:-1]:  # the last rung is the good run itself
        ablation.rung(stage, good, bad, configs, remake)
    evaluations = len(differs) - 1
    evaluated = other.manifests["evaluate"].seconds if "evaluate" in other.manifests else 0.0
    seconds = sum(run.manifests[stage].seconds for stage in remade) + evaluations * evaluated
    command = f"python -m flows.ablate --good {other.run.name} --bad {run.run.name}"
    return Plan(command=command, remade=tuple(remade), evaluations=evaluations, seconds=round(seconds, 1)), None
