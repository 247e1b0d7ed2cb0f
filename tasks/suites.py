from lifecycle.artifacts import Suites
from lifecycle.stages import suites as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task()
def collect_suites(session: Session, config: stage.SuitesConfig) -> Suites:
    """What is held out from all training."""
    return run_stage(session, stage.collect_suites, config)
