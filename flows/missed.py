"""Runs that a schedule asked for while nobody could run them: one is made up for, the others are let go.

Prefect gives a worker that was away every run it missed, oldest first, and has no setting for it
(https://github.com/PrefectHQ/prefect/issues/15886). They would all make the same.
"""

from datetime import UTC, datetime

from prefect import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run
from prefect.states import Cancelled


def let_go() -> int:
    """Cancel what the same schedule has waiting from before now; how many. A run started by hand lets nothing go.

    Whichever begins does this. Were it the newest that is kept, a limit of one run at a time could have cancelled it
    before the older ones stepped back, and none would run.
    """
    if flow_run.id is None:
        return 0
    with get_client(sync_client=True) as client:
        mine = client.read_flow_run(flow_run.id)
        if not mine.auto_scheduled or mine.deployment_id is None:
            return 0
        due = client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[mine.deployment_id])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
                expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
            ),
        )
        missed = [run for run in due if run.auto_scheduled and run.parameters == mine.parameters]
        for run in missed:
            client.set_flow_run_state(run.id, Cancelled(name="Missed", message=f"{mine.name} makes up for it"))
    return len(missed)
