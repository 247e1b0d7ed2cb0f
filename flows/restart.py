"""Start a run again whose process died, as often as is sensible. An automation calls it; nobody has to.

What was sealed is reused and training goes on from its last verified checkpoint, so starting again costs minutes. A run
that dies again and again is not transient: after `at_most` restarts it is left alone, and the alert has been sent.
"""

from uuid import UUID

from prefect import flow, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import State, StateType
from prefect.states import Completed

RESTART_OF = "restart-of:"


@flow(name="restart", persist_result=False)
def restart(flow_run: UUID, at_most: int = 3) -> State[None]:
    """A new run of the same deployment with the same parameters, unless the first was restarted `at_most` times."""
    with get_client(sync_client=True) as client:
        crashed = client.read_flow_run(flow_run)
        if crashed.deployment_id is None:
            return Completed(name="NotRestarted", message=f"{crashed.name} has no deployment: started by hand.")
        if crashed.state_type != StateType.CRASHED:
            return Completed(name="NotRestarted", message=f"{crashed.name} is {crashed.state_name} by now.")
        first = next(
            (tag.removeprefix(RESTART_OF) for tag in crashed.tags if tag.startswith(RESTART_OF)), str(flow_run)
        )
        restarts = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[RESTART_OF + first]))
        )
        key = f"{RESTART_OF}{flow_run}"
        if any(again.idempotency_key == key for again in restarts):  # two automations fired for one crash
            return Completed(name="NotRestarted", message=f"{crashed.name} was started again already.")
        if len(restarts) >= at_most:
            return Completed(
                name="GivenUp", message=f"{crashed.name} was started again {len(restarts)} times and died each time."
            )
        again = client.create_flow_run_from_deployment(
            crashed.deployment_id,
            parameters=crashed.parameters,
            name=f"{crashed.name.partition(' restart ')[0]} restart {len(restarts) + 1}",
            tags=sorted({*(tag for tag in crashed.tags if not tag.startswith(RESTART_OF)), RESTART_OF + first}),
            idempotency_key=key,
        )
    return Completed(
        name="Restarted", message=f"{crashed.name} goes on as {again.name} ({len(restarts) + 1} of {at_most})"
    )
