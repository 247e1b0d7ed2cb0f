"""The automation for dead runs knows every way in which a run of ours says that it has ended."""

import re
import sys
from pathlib import Path
from uuid import uuid4

ROOT = Path(__file__).parents[2]


def test_after_every_state_that_a_flow_ends_in_no_heartbeat_is_missed():
    """Otherwise it fires for runs that are done: the server refuses, and its log fills with warnings."""
    sys.path.insert(0, str(ROOT / "deployments"))
    try:
        import automations
    finally:
        sys.path.remove(str(ROOT / "deployments"))
    text = "\n".join(file.read_text() for folder in ("flows", "tasks") for file in (ROOT / folder).glob("*.py"))
    names = set(re.findall(r'(?:Completed|Failed|Cancelled|Crashed)\(\s*name="(\w+)"', text))
    assert {"Restarted", "GivenUp", "Released", "AwaitingApproval"} <= names
    assert names | {"Blocked", "Inconclusive", "Completed", "Failed", "Crashed", "Cancelled"} <= set(automations.ENDED)
    expected = automations.dead_runs(150, uuid4()).trigger.expect
    assert {f"prefect.flow-run.{name}" for name in automations.ENDED} < expected
