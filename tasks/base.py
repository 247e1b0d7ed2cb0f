from lifecycle.artifacts import Checkpoint
from lifecycle.stages import base as stage
from tasks.adapter import run_stage, stage_task
from tasks.session import Session


@stage_task(retries=1)
def adopt_base(session: Session, config: stage.BaseConfig) -> Checkpoint:
    """A model trained elsewhere, with its tokenizer and template."""
    return run_stage(session, stage.adopt_base, config)
