from lifecycle.artifacts import Demonstrations, Suites
from lifecycle.stages import demonstrations as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task()
def curate_demonstrations(session: Session, config: stage.DemonstrationsConfig, suites: Suites) -> Demonstrations:
    """Conversations that show the behaviour."""
    return run_stage(session, stage.curate_demonstrations, config, suites)
