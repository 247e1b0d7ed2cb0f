from lifecycle.artifacts import Comparisons, Suites
from lifecycle.stages import comparisons as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task()
def curate_comparisons(session: Session, config: stage.ComparisonsConfig, suites: Suites) -> Comparisons:
    """Pairs of answers of which one should win."""
    return run_stage(session, stage.curate_comparisons, config, suites)
