"""What a Prefect server does by itself when a process dies. Whom it tells is in `alerts`."""

from datetime import timedelta
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

ENDED = (
    "Completed",
    "Failed",
    "Crashed",
    "Cancelled",
    "Missed",
    "Released",
    "AwaitingApproval",
    "Blocked",
    "Inconclusive",
    "Preempted",
    "Diagnosed",
    "Restarted",
    "NotRestarted",
    "GivenUp",
)
"""Names of the states in which our flows and Prefect's end: after one of them no heartbeat is missed."""


def dead_runs(silence_seconds: int, restart_deployment: UUID) -> AutomationCore:
    """A run whose heartbeats stop is marked crashed, which frees its slots, and started again.

    After kill -9 nobody else does: the server calls it RUNNING for ever. `restarts` sees that crash too, but Prefect
    holds an event back for 15 minutes when the one before it, the start of the run, came before the server's own
    restart: it keeps their order in memory (`PRECEDING_EVENT_LOOKBACK`). Silence is no event and waits for none.
    `flows.restart` starts one run, however often it is asked.

    Flows send one every 30 s (PREFECT_FLOWS_HEARTBEAT_FREQUENCY, and Prefect's least). Its documentation advises to
    wait three times as long; under load one came 60 s late, hence the default of five times.
    """
    ended = {f"prefect.flow-run.{name}" for name in ENDED}
    return AutomationCore(
        name="lifecycle: dead runs",
        description=f"No heartbeat for {silence_seconds} s: the process is gone.",
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ended},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=silence_seconds),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message=f"no heartbeat for {silence_seconds} s: its process is gone"
            ),
            _start_again(restart_deployment),
        ],
    )


def restarts(restart_deployment: UUID) -> AutomationCore:
    """A crashed run is started again by the flow `restart`, which counts."""
    return AutomationCore(
        name="lifecycle: restart what crashed",
        description="What was sealed is reused; at most three times.",
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            expect={"prefect.flow-run.Crashed"},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[_start_again(restart_deployment)],
    )


def _start_again(restart_deployment: UUID) -> RunDeployment:
    # A plain "{{ ... }}" would be passed through `tojson`, which knows no UUID (Prefect 3.8: InvalidJinja).
    run = {"__prefect_kind": "jinja", "template": "{{ flow_run.id }}"}
    return RunDeployment(deployment_id=restart_deployment, parameters={"flow_run": run})
