"""Two runs side by side: which stages differ by themselves, and the models between the one and the other.

A ladder leads from the bad run to the good one. Each rung takes one more stage from the good run, from the top of the
chain down, and leaves to the bad run's recipe what lies below. What is sealed already is not made again.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lifecycle import sealing
from lifecycle.errors import ConfigError, InputError, StaleArtifact
from lifecycle.runs import Run
from lifecycle.sealing import Artifact, Manifest, StageConfig
from lifecycle.store import Store

# Every stage up to the candidate with what it may be made from, each after its inputs. `a|b`: the first there is.
POSSIBLE_INPUTS: Mapping[str, tuple[str, ...]] = {
    "suites": (),
    "base": (),
    "corpus": ("suites",),
    "tokenizer": ("corpus", "base"),
    "shards": ("corpus", "tokenizer"),
    "pretrain": ("shards", "tokenizer", "base"),
    "demonstrations": ("suites",),
    "sft": ("pretrain|base", "demonstrations"),
    "comparisons": ("suites",),
    "reward": ("sft", "comparisons"),
    "preference": ("sft", "comparisons", "reward"),
}
CANDIDATES = ("preference", "sft")

Chain = dict[str, Artifact]
Remake = Callable[[str, StageConfig, list[Artifact]], Artifact]


@dataclass(frozen=True)
class Recorded:
    """A run that came as far as its candidate."""

    store: Store
    run: Run

    @cached_property
    def manifests(self) -> dict[str, Manifest]:
        folders = {stage.stage: Path(stage.path) for stage in self.run.stages}
        if not folders.keys() & set(CANDIDATES):
            raise InputError(
                f"expected run {self.run.name} to have made a candidate, found that it ended {self.run.state} before. "
                f"Give a run that came as far as {' or '.join(CANDIDATES)}."
            )
        return {stage: sealing.read_manifest(folders[stage]) for stage in POSSIBLE_INPUTS if stage in folders}

    @cached_property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """The stages of this run with what each was made from."""
        return inputs_among(self.manifests)

    @property
    def candidate(self) -> str:
        """The stage whose checkpoint was evaluated."""
        return next(stage for stage in CANDIDATES if stage in self.manifests)

    def artifact(self, stage: str) -> Artifact:
        """What the run has at this stage, every byte verified."""
        folder = next(Path(record.path) for record in self.run.stages if record.stage == stage)
        try:
            return self.store.load(folder)
        except StaleArtifact as error:
            raise InputError(f"{error} Then give that run instead of {self.run.name}.") from error


def inputs_among(stages: Collection[str]) -> dict[str, tuple[str, ...]]:
    """What each of these stages is made from, where a recipe has these and no others."""

    def there_is(names: str) -> list[str]:
        return [name for name in names.split("|") if name in stages][:1]

    return {
        stage: tuple(found for names in inputs for found in there_is(names))
        for stage, inputs in POSSIBLE_INPUTS.items()
        if stage in stages
    }


def differences(good: Recorded, bad: Recorded) -> dict[str, str]:
    """The stages that differ by themselves, not only because what they are made from does, each with what differs."""
    if good.inputs != bad.inputs:
        odd = sorted(set(good.inputs) ^ set(bad.inputs))
        raise InputError(
            f"expected two runs with the same stages, found {', '.join(odd)} in one of them only: no stage of the one "
            "can stand in for what the other leaves out. Give runs of recipes that differ in settings."
        )
    if good.manifests["suites"].digest != bad.manifests["suites"].digest:
        raise InputError(
            f"expected two runs that hold out the same items, found suites {good.manifests['suites'].digest[:12]} and "
            f"{bad.manifests['suites'].digest[:12]}: no score of the one can be compared with one of the other. Run "
            "the older recipe on the newer suites first."
        )
    found = {stage: _own_difference(good.manifests[stage], bad.manifests[stage]) for stage in good.inputs}
    return {stage: why for stage, why in found.items() if why is not None}


def rung(stage: str, good: Recorded, bad: Recorded, configs: Mapping[str, StageConfig], remake: Remake) -> Chain:
    """The chain with every stage down to `stage` as in the good run, and below it as the bad run's recipe makes it."""
    order = list(good.inputs)
    taken = set(order[: order.index(stage) + 1])
    chain: Chain = {}
    for name, inputs in good.inputs.items():
        digests = [chain[part].digest for part in inputs]
        if name in taken:
            chain[name] = good.artifact(name)
        elif digests == [entry.digest for entry in bad.manifests[name].inputs]:
            chain[name] = bad.artifact(name)  # nothing above it has changed
        elif digests == [entry.digest for entry in good.manifests[name].inputs] and _same_recipe(name, good, bad):
            chain[name] = good.artifact(name)
        else:
            chain[name] = remake(name, configs[name], [chain[part] for part in inputs])
    return chain


def still_describes(configs: Mapping[str, StageConfig], bad: Recorded) -> None:
    """A recipe may have changed since the run: then it cannot make what lies below a swapped stage."""
    for name, inputs in bad.inputs.items():
        identity = sealing.fingerprint(configs[name], [bad.artifact(part) for part in inputs])
        if identity != bad.manifests[name].fingerprint:
            raise ConfigError(
                f"expected the recipe of run {bad.run.name} to describe its {name} still, found another identity "
                f"({bad.manifests[name].fingerprint[:12]} then, {identity[:12]} now): the recipe, its raw files or the "
                "stage's revision changed. Run it once more, and give that run."
            )


def _same_recipe(stage: str, good: Recorded, bad: Recorded) -> bool:
    one, other = good.manifests[stage], bad.manifests[stage]
    return (one.config, one.revision, one.source) == (other.config, other.revision, other.source)


def _own_difference(good: Manifest, bad: Manifest) -> str | None:
    if good.digest == bad.digest:
        return None
    was, now = dict(flat(good.config)), dict(flat(bad.config))
    changed = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
    said = [f"{key} {was.get(key)!r} in the good run, {now.get(key)!r} in the bad one" for key in changed]
    if good.revision != bad.revision or good.source != bad.source:
        files = sorted(name for name in {*good.source, *bad.source} if good.source.get(name) != bad.source.get(name))
        said.append(f"its code: {', '.join(files) or f'revision {good.revision} and {bad.revision}'}")
    if not said and [entry.digest for entry in good.inputs] == [entry.digest for entry in bad.inputs]:
        said.append("other bytes from the same recipe and the same inputs")
    return "; ".join(said) or None


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as `horizon.steps`."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        nested = isinstance(value, Mapping) and value
        found += flat(value, f"{prefix}{name}.") if nested else [(f"{prefix}{name}", value)]
    return found
