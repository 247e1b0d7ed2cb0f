"""A checkpoint to a report, a decision and, if it passes, a live release: `python -m flows.evaluate_release`.

Started alone it evaluates the checkpoint the recipe describes; what is sealed already is reused.
"""

from flows import cli

if __name__ == "__main__":  # before the heavy imports: see full_lifecycle
    raise SystemExit(cli.main("evaluate_release"))

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.post_train import POST_TRAIN, post_train
from flows.prepare_data import PREPARE_DATA, prepare_data
from flows.train_base import TRAIN_BASE, train_base
from lifecycle.artifacts import Checkpoint, Corpus, EvalReport, GateDecision, Suites
from lifecycle.errors import DamagedArtifact
from lifecycle.ledger import Ledger
from lifecycle.report.decision import sentence
from tasks.evaluate import evaluate
from tasks.gate import decide_gate
from tasks.promotion import promote
from tasks.release import release
from tasks.session import Request, Session, working_on

EVALUATE_RELEASE = ("evaluate", "gate", "release")

Ending = State[None]
"""How a gated flow ends in Prefect: Released, Blocked or Inconclusive."""


def evaluate_release(run: Session, suites: Suites, corpus: Corpus, candidate: Checkpoint) -> Ending:
    """The candidate goes live if it is better than what is; otherwise nothing moves, and the reasons are said."""
    report = evaluate(run, run.recipe.evaluate, candidate, suites, corpus)
    decision = decide_gate(run, run.recipe.gate, report, live_report(run, suites, corpus, candidate))
    if not decision.promote:
        return held_back(run, decision)
    released = release(run, run.recipe.release, candidate, decision, report)
    promote(run, released, decision, reason=f"gate: {sentence(decision)}")
    run.conclude("RELEASED", f"release {released.digest[:12]} is live: {sentence(decision)}")
    return Completed(name="Released", message=run.message)


def live_report(run: Session, suites: Suites, corpus: Corpus, candidate: Checkpoint) -> EvalReport | None:
    """What is live, measured as the candidate is: its sealed report if suites and settings are equal, else anew."""
    live = Ledger(run.store).opponent_of(candidate.digest)
    if live is None:
        return None
    checkpoint = run.store.find(live.checkpoint)
    if not isinstance(checkpoint, Checkpoint):
        raise DamagedArtifact(f"the ledger's live checkpoint {live.checkpoint[:12]} is a {type(checkpoint).__name__}.")
    return evaluate(run, run.recipe.evaluate, checkpoint, suites, corpus, label="evaluate_live")


def held_back(run: Session, decision: GateDecision) -> Ending:
    """The end of a run whose candidate did not pass. A state, not an exception: the run did what it is for."""
    name = "Blocked" if decision.verdict == "BLOCK" else "Inconclusive"
    run.conclude("BLOCKED" if decision.verdict == "BLOCK" else "INCONCLUSIVE", sentence(decision))
    return Failed(name=name, message=run.message)


@flow(name="evaluate-release", persist_result=False)
def evaluate_release_flow(request: Request) -> Ending:
    """Everything up to the release; what comes before the evaluation is usually sealed."""
    plan = (*PREPARE_DATA, *TRAIN_BASE, *POST_TRAIN, *EVALUATE_RELEASE)
    with working_on(request, "evaluate-release", plan) as run:
        suites, corpus, tokenizer, shards = prepare_data(run)
        preference = post_train(run, suites, train_base(run, tokenizer, shards))
        return evaluate_release(run, suites, corpus, preference)
