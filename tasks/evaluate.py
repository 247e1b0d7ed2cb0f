from lifecycle.artifacts import Checkpoint, Corpus, Demonstrations, EvalReport, Suites
from lifecycle.stages import evaluate as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task(retries=1)
def evaluate(
    session: Session,
    config: stage.EvaluateConfig,
    checkpoint: Checkpoint,
    suites: Suites,
    corpus: Corpus | None,
    *,
    earlier: EvalReport | None = None,
    demonstrations: Demonstrations | None = None,
    label: str | None = None,
) -> EvalReport:
    """Scores on what was held out. `earlier` is a report to take records over from; `label` names a second evaluation
    in one run."""
    return run_stage(session, stage.evaluate, config, checkpoint, suites, corpus, earlier, demonstrations, label=label)
