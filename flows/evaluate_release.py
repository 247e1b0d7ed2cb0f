"""A checkpoint to a report, a decision and, if it passes, a live release: `python -m flows.evaluate_release`.

Started alone it evaluates the checkpoint the recipe describes; what is sealed already is reused.
"""

from flows import cli

if __name__ == "__main__":  # before the heavy imports: see full_lifecycle
    raise SystemExit(cli.main("evaluate_release"))

from functools import partial

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.post_train import POST_TRAIN, PostTrained, post_train
from flows.prepare_data import PREPARE_DATA, Data, prepare_data
from flows.train_base import TRAIN_BASE, train_base
from lifecycle.artifacts import Checkpoint, Demonstrations, EvalReport, GateDecision, Release
from lifecycle.errors import DamagedArtifact
from lifecycle.evaluation.looks import first_look, next_look
from lifecycle.ledger import Ledger
from lifecycle.report.decision import sentence
from lifecycle.stages.evaluate import EvaluateConfig
from tasks.evaluate import evaluate
from tasks.gate import decide_gate
from tasks.promotion import ask_for_approval, is_live, promote
from tasks.release import release
from tasks.report import publish_report
from tasks.session import Request, Session, working_on

EVALUATE_RELEASE = ("evaluate", "gate", "release")

Ending = State[None]
"""How a gated flow ends in Prefect: Released, AwaitingApproval, Blocked or Inconclusive."""


def evaluate_release(run: Session, data: Data, trained: PostTrained) -> Ending:
    """The candidate goes live if it is better than what is; otherwise nothing moves, and the reasons are said."""
    report, decision = looked_at(run, data, trained)
    publish_report(run)
    if not decision.promote:
        return held_back(run, decision)
    released = release(run, run.recipe.release, trained.candidate, decision, report)
    if run.recipe.gate.approval == "required" and not is_live(run, released):
        return awaiting_approval(run, released, decision)
    promote(run, released, decision, reason=f"gate: {sentence(decision)}")
    run.conclude("RELEASED", f"release {released.digest[:12]} is live: {sentence(decision)}")
    return Completed(name="Released", message=run.message)


def looked_at(run: Session, data: Data, trained: PostTrained) -> tuple[EvalReport, GateDecision]:
    """The last look's report and decision: one look, or as many as the gate's plan has while the question is open.

    The opponent is what is live; where nothing is yet, the adopted base, as it was before it was trained here.
    """
    gate, candidate = run.recipe.gate, trained.candidate
    live = live_checkpoint(run, candidate)
    baseline = data.base if live is None else None
    items = first_look(gate.rules, gate.looks, data.suites.items) if gate.looks > 1 else None
    measured = partial(measure, run, data, trained.demonstrations)
    report = opponent = decision = None
    while True:
        config = (
            run.recipe.evaluate
            if items is None
            else run.recipe.evaluate.model_copy(update={"items_per_suite": dict(items)})
        )
        report = measured(config, candidate, earlier=report)
        # As the candidate is measured: its sealed report if suites and settings are equal, else anew.
        if live is not None:
            opponent = measured(config, live, earlier=opponent, label="evaluate_live")
        elif baseline is not None:
            opponent = measured(config, baseline, earlier=opponent, label="evaluate_base")
        decision = decide_gate(run, gate, report, opponent, decision, baseline)
        items = None if items is None else next_look(decision.checks, items)
        if items is None:
            return report, decision


def measure(
    run: Session,
    data: Data,
    demonstrations: Demonstrations,
    config: EvaluateConfig,
    checkpoint: Checkpoint,
    *,
    earlier: EvalReport | None = None,
    label: str | None = None,
) -> EvalReport:
    """A checkpoint's report. Items are looked for in what was trained on here: the corpus, else the demonstrations."""
    corpus, shown = (None, demonstrations) if data.text is None else (data.text.corpus, None)
    return evaluate(run, config, checkpoint, data.suites, corpus, earlier=earlier, demonstrations=shown, label=label)


def live_checkpoint(run: Session, candidate: Checkpoint) -> Checkpoint | None:
    """What the candidate is compared with: what is live, or was before the candidate went live."""
    live = Ledger(run.store).opponent_of(candidate.digest)
    if live is None:
        return None
    checkpoint = run.store.find(live.checkpoint)
    if not isinstance(checkpoint, Checkpoint):
        raise DamagedArtifact(f"the ledger's live checkpoint {live.checkpoint[:12]} is a {type(checkpoint).__name__}.")
    return checkpoint


def held_back(run: Session, decision: GateDecision) -> Ending:
    """The end of a run whose candidate did not pass. A state, not an exception: the run did what it is for."""
    name = "Blocked" if decision.verdict == "BLOCK" else "Inconclusive"
    run.conclude("BLOCKED" if decision.verdict == "BLOCK" else "INCONCLUSIVE", sentence(decision))
    return Failed(name=name, message=run.message)


def awaiting_approval(run: Session, released: Release, decision: GateDecision) -> Ending:
    """The end of a run whose candidate passed and whose policy wants a person. No process waits for him: the flow
    `promote` is a run of its own, tomorrow or never."""
    ask_for_approval(run, released, decision)
    run.conclude("AWAITING_APPROVAL", f"release {released.digest[:12]} may go live: {sentence(decision)}")
    return Completed(name="AwaitingApproval", message=run.message)


@flow(name="evaluate-release", persist_result=False)
def evaluate_release_flow(request: Request) -> Ending:
    """Everything up to the release; what comes before the evaluation is usually sealed."""
    plan = (*PREPARE_DATA, *TRAIN_BASE, *POST_TRAIN, *EVALUATE_RELEASE)
    with working_on(request, "evaluate-release", plan) as run:
        data = prepare_data(run)
        trained = post_train(run, data.suites, train_base(run, data), data.text)
        return evaluate_release(run, data, trained)
