"""What a Prefect server does by itself when something happens: restart what died, tell people what they should know.

Each alert is one message per run, however often its event comes (`for_each` the run, a quiet time of an hour).
"""

import json
from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

QUIET = timedelta(hours=1)

ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "Released", "Blocked", "Inconclusive", "Preempted")
"""Names of the states in which our flows and Prefect's end: after one of them no heartbeat is missed."""

EVENTS = {
    "gate blocked": ("prefect.flow-run.Blocked", "prefect.flow-run.Inconclusive"),
    "run crashed": ("prefect.flow-run.Crashed", "prefect.flow-run.Failed"),
}
CANARY_RED = ("Failed", "Crashed", "Blocked", "Inconclusive", "Late")


def dead_runs(silence_seconds: int) -> AutomationCore:
    """A run whose heartbeats stop is marked crashed, which frees its slots: kill -9 leaves it RUNNING for ever.

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
            )
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
        actions=[
            # A plain "{{ ... }}" would be passed through `tojson`, which knows no UUID (Prefect 3.8: InvalidJinja).
            RunDeployment(
                deployment_id=restart_deployment,
                parameters={"flow_run": {"__prefect_kind": "jinja", "template": "{{ flow_run.id }}"}},
            ),
        ],
    )


def alerts(webhook: UUID) -> list[AutomationCore]:
    """One automation per kind of alert, each of which calls the webhook."""
    found = [_alert(subject, events, {}, webhook) for subject, events in EVENTS.items()]
    canary = {"prefect.resource.role": "deployment", "prefect.resource.name": "canary"}
    red = [f"prefect.flow-run.{name}" for name in CANARY_RED]
    return [*found, _alert("canary red", red, canary, webhook)]


def _alert(subject: str, events: Iterable[str], related: dict[str, str], webhook: UUID) -> AutomationCore:
    said = {"subject": subject, "event": "{{ event.event }}", "run": "{{ event.resource.name }}"}
    return AutomationCore(
        name=f"lifecycle: {subject}",
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=related,
            expect=set(events),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=QUIET,
        ),
        actions=[CallWebhook(block_document_id=webhook, payload=json.dumps(said))],
    )
