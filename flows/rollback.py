"""Make an earlier release live again: `python -m flows.rollback --release previous --reason "..."`."""

from flows import cli

if __name__ == "__main__":  # before the heavy imports: see full_lifecycle
    raise SystemExit(cli.main("rollback"))

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks import promotion
from tasks.session import PromotionRequest, working_on


@flow(name="rollback", persist_result=False)
def rollback(request: PromotionRequest) -> State[None]:
    """Refused when a file of the earlier release is gone or changed; what is live then stays live."""
    with working_on(request, "rollback", ()) as run:
        live = promotion.seen_live(run.store, request.expected)
        release = promotion.find_release(run.store, request)
        promotion.roll_back(run, release, live, request)
        run.conclude("RELEASED", f"release {release.digest[:12]} is live again: {request.reason}")
        return Completed(name="Released", message=run.message)
