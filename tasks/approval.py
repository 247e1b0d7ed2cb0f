"""What a person sees who is asked whether a release may go live: the decision, and a form with all but the answer."""

import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote

from prefect import get_client
from prefect.utilities.urls import url_for

from lifecycle.artifacts import GateDecision, Release
from lifecycle.ledger import Ledger
from lifecycle.report.decision import sentence
from tasks.session import Session

DEPLOYMENT = "promote/promote"


def page_of(session: Session, release: Release, decision: GateDecision) -> str:
    """The question as Markdown; below it the whole decision, as it was sealed."""
    wanted = parameters(session, release, decision)
    form = _form(wanted)
    approve = f"[Open the form of `promote`]({form}): all but your name and reason is filled in." if form else ""
    sealed = (decision.path / "decision.md").read_text(encoding="utf-8")
    return f"""# Release {release.digest[:12]} awaits approval

{sentence(decision).capitalize()}. The policy it was gated by asks for a person. Nothing runs and nothing waits until
then; if something else goes live first, this decision no longer counts and the promotion is refused.

{approve}

From a shell:

    {_command(wanted)}

{sealed}"""


def parameters(session: Session, release: Release, decision: GateDecision) -> dict[str, Any]:
    """What the form of `promote` is filled with: what was decided, against what, in which store."""
    live = Ledger(session.store).live()
    request = session.request
    return {
        "release": release.digest[:12],
        "expected": live.release[:12] if live else "",
        "decision": f"{decision.digest[:12]} {decision.verdict}: {sentence(decision)}",
        "recipe": request.recipe,
        "settings": request.settings,
        "store": request.store,
    }


def _form(wanted: dict[str, Any]) -> str | None:
    """The run form of the deployment, filled in: the UI reads `parameters` from the address."""
    try:
        with get_client(sync_client=True) as client:
            found = client.read_deployment_by_name(DEPLOYMENT)
    except Exception:  # a laptop's server has no deployments
        return None
    filled = quote(json.dumps({"request": wanted}), safe="")
    return f"{url_for('deployment', obj_id=found.id)}/run?parameters={filled}"


def _command(wanted: dict[str, Any]) -> str:
    words = ["python", "-m", "flows.promote", "--recipe", wanted["recipe"]]
    words += [word for setting in wanted["settings"] for word in ("--set", setting)]
    words += ["--store", str(Path(wanted["store"]).absolute())] if wanted["store"] else []
    words += ["--release", wanted["release"]]
    words += ["--expected", wanted["expected"]] if wanted["expected"] else []
    words += ["--decision", wanted["decision"].split()[0], "--approver", "NAME", "--reason", "WHY"]
    return shlex.join(words)
