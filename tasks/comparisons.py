from lifecycle.artifacts import Checkpoint, Comparisons, Suites
from lifecycle.stages import comparisons as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task()
def curate_comparisons(
    session: Session, config: stage.ComparisonsConfig, suites: Suites, sft: Checkpoint | None = None
) -> Comparisons:
    """Pairs of answers of which one should win."""
    return run_stage(session, stage.curate_comparisons, config, suites, sft)
