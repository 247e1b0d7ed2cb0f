"""Which stage makes the bad run worse than the good one: `python -m flows.ablate --good RUN --bad RUN`.

One stage's artifact after the other is taken from the good run, only what lies below it is made again, and what that
moves is told with its interval.
"""

from flows import cli

if __name__ == "__main__":  # before the heavy imports: see full_lifecycle
    raise SystemExit(cli.main("ablate"))

from collections.abc import Sequence

from prefect import flow

from lifecycle import ablation, recipes
from lifecycle.ablation import Chain, Recorded
from lifecycle.artifacts import Checkpoint, Corpus, Demonstrations, Suites
from lifecycle.evaluation.attribution import Rung, effects
from lifecycle.evaluation.items import read_items
from lifecycle.evaluation.metrics import measured
from lifecycle.report.ablation import Attribution
from lifecycle.report.screens import decision_of
from lifecycle.runs import Run, find_run
from lifecycle.sealing import Artifact, StageConfig
from tasks.ablation import publish, remake
from tasks.evaluate import evaluate
from tasks.session import AblationRequest, Session, store_of, working_on


@flow(name="ablate", persist_result=False)
def ablate(request: AblationRequest) -> None:
    """Nothing is promoted: what is made here is only looked at."""
    store = store_of(request)
    good, bad = (Recorded(store, find_run(store, name)) for name in (request.good, request.bad))
    differs = ablation.differences(good, bad)
    with working_on(_with_recipe_of(bad.run, request), "ablate", ()) as run:
        for stage, why in differs.items():
            run.display.say(f"{stage} differs: {why}")
        found = attribute(run, good, bad, differs, request.metrics)
        publish(run, found)
        for sentence in found.sentences:
            run.display.say(sentence)
        said = "; ".join(found.sentences) or "no stage differs by itself"
        run.conclude("COMPLETED", f"{said}. Table and plot: {run.run.folder}/ablation.*")


def attribute(
    run: Session, good: Recorded, bad: Recorded, differs: dict[str, str], metrics: Sequence[str]
) -> Attribution:
    """Climb from the bad run to the good one, a stage at a time, every rung measured as the good run was."""
    configs = {stage: getattr(run.recipe, stage) for stage in bad.inputs}
    ladder: dict[str, Chain] = {"bad": {stage: bad.artifact(stage) for stage in bad.inputs}}
    if len(differs) > 1:
        ablation.still_describes(configs, bad)
    for stage in differs:
        is_last = stage == list(differs)[-1]
        ladder[stage] = (
            {name: good.artifact(name) for name in good.inputs}
            if is_last  # below it nothing differs by itself
            else ablation.rung(stage, good, bad, configs, _Remaker(run, stage))
        )
    rungs = [_measure(run, good, name, chain) for name, chain in ladder.items()] if differs else []
    asked = list(metrics) or _gated(bad.run) or _gated(good.run) or sorted({m for rung in rungs for m in rung.evidence})
    confidence = run.recipe.gate.confidence
    return Attribution(
        good=good.run.name,
        bad=bad.run.name,
        differs=differs,
        effects=effects(rungs, asked, confidence=confidence) if differs else [],
        values={
            metric: [rung.evidence[metric].value if metric in rung.evidence else None for rung in rungs]
            for metric in asked
        },
        confidence=confidence,
    )


class _Remaker:
    """Makes a stage of one rung, under a name of its own in the run's record."""

    def __init__(self, run: Session, rung: str) -> None:
        self.run, self.rung = run, rung

    def __call__(self, stage: str, config: StageConfig, inputs: list[Artifact]) -> Artifact:
        return remake(self.run, stage, config, inputs, f"{stage}_with_good_{self.rung}")


def _measure(run: Session, good: Recorded, name: str, chain: Chain) -> Rung:
    """All rungs answer the same items, of the good run's suites and corpus, asked in one way."""
    suites, candidate = good.artifact("suites"), chain[good.candidate]
    corpus = good.artifact("corpus") if "corpus" in good.inputs else None
    demonstrations = None if corpus else good.artifact("demonstrations")
    assert isinstance(suites, Suites)
    assert isinstance(corpus, Corpus | None)
    assert isinstance(demonstrations, Demonstrations | None)
    assert isinstance(candidate, Checkpoint)
    config = recipes.load(good.run.record.recipe, good.run.record.settings).evaluate
    label = "evaluate_bad" if name == "bad" else f"evaluate_with_good_{name}"
    report = evaluate(run, config, candidate, suites, corpus, demonstrations=demonstrations, label=label)
    return Rung(name, candidate.digest, measured(read_items(report.path)))


def _gated(run: Run) -> list[str]:
    """The metrics the run's gate looked at."""
    decision = decision_of(run)
    return [] if decision is None else list(dict.fromkeys(check.metric for check in decision.checks))


def _with_recipe_of(run: Run, request: AblationRequest) -> AblationRequest:
    record = run.record
    return request.model_copy(update={"recipe": record.recipe, "settings": record.settings})
