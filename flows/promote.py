"""Make a release live by hand: `python -m flows.promote --release DIGEST --reason "..."`.

Its decision must say PROMOTE, against what is live now. This is how a release goes live whose policy asks for approval
(`--approver NAME`), and how one that was rolled back returns.
"""

from flows import cli

if __name__ == "__main__":  # before the heavy imports: see full_lifecycle
    raise SystemExit(cli.main("promote"))

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks import promotion
from tasks.session import PromotionRequest, working_on


@flow(name="promote", persist_result=False)
def promote(request: PromotionRequest) -> State[None]:
    """Refused when something else went live since the release was gated, or is live than what was expected."""
    with working_on(request, "promote", ()) as run:
        live = promotion.seen_live(run.store, request.expected)
        release = promotion.find_release(run.store, request)
        promotion.promote_by_name(run, release, live, request)
        by = f", approved by {request.approver}" if request.approver else ""
        run.conclude("RELEASED", f"release {release.digest[:12]} is live{by}: {request.reason}")
        return Completed(name="Released", message=run.message)
