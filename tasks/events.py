"""What automations should hear of and no state of a run says: a budget that is spent, another champion.

Each has a resource of its own, by which `deployments/alerts.py` tells news from the same thing said again: a run that
was started again speaks as the run it continues.
"""

from collections.abc import Mapping
from contextlib import suppress

from prefect.events import emit_event
from prefect.runtime import flow_run

BUDGET_EXCEEDED = "lifecycle.budget.exceeded"
CHAMPION_CHANGED = "lifecycle.champion.changed"
RESTART_OF = "restart-of:"
"""Tag of a run that goes on where another crashed, with the id of the first one (`flows.restart`)."""


def first_run() -> str:
    """Id of this flow run; of the one it continues, where it was started again."""
    restarted = (tag.removeprefix(RESTART_OF) for tag in flow_run.tags or [] if tag.startswith(RESTART_OF))
    return next(restarted, str(flow_run.id))


def tell(event: str, about: str, name: str, message: str, facts: Mapping[str, object]) -> None:
    """Send one event; `about` is the same for the same news. Nothing waits for it, nothing fails by it."""
    with suppress(Exception):
        emit_event(
            event,
            resource={
                "prefect.resource.id": f"{event.rpartition('.')[0]}.{about}",
                "prefect.resource.name": name,
                # Where a state's event has it, so that an alert reads the same from both.
                "prefect.state-message": message,
            },
            payload=dict(facts),
        )
