"""What passed the gate waits for a person where its policy says so: as a state, not as a process."""

import re

import pytest

from lifecycle import __main__ as program
from lifecycle.ledger import Ledger
from lifecycle.runs import all_runs
from lifecycle.store import Store

pytestmark = pytest.mark.slow  # 12 s on an idle machine, after Prefect has started

ASKED = ("--set", "gate.approval=required", "--set", "preference.quality=0.8")


def live(house):
    return Ledger(Store(house.store)).live()


def test_a_candidate_that_passed_goes_live_when_somebody_approves_its_decision(champion):
    first = live(champion).release
    waits = champion("full_lifecycle", *ASKED)
    assert waits.code == 0, waits.text
    run = next(all_runs(Store(champion.store)))
    assert run.state == "AWAITING_APPROVAL"
    assert live(champion).release == first
    asked = (run.folder / "approval.md").read_text()
    (release,) = re.findall(r"--release ([0-9a-f]{12})", asked)
    (decision,) = re.findall(r"--decision ([0-9a-f]{12})", asked)
    assert f"--expected {first[:12]}" in asked
    assert "the page of a decision" in asked, "whoever approves reads the whole of it"

    named = ("--release", release, "--reason", "looked at forty answers")
    nobody = champion("promote", *named)
    assert nobody.code == 3
    assert "ApprovalMissing: expected an approver" in nobody.text
    other = champion("promote", *named, "--approver", "Ada", "--decision", "0" * 12)
    assert other.code == 1
    assert f"found it on {decision}" in other.text
    assert live(champion).release == first

    approved = champion("promote", *named, "--approver", "Ada", "--decision", decision, "--expected", first[:12])
    assert approved.code == 0, approved.text
    entry = live(champion)
    assert (entry.release[:12], entry.approver, entry.reason) == (release, "Ada", "looked at forty answers")
    assert program.main(["audit", "--store", str(champion.store)]) == 0

    again = champion("full_lifecycle", *ASKED)  # nothing is asked twice
    assert again.code == 0, again.text
    assert next(all_runs(Store(champion.store))).state == "RELEASED"

    # A nightly run does not ask every night for what somebody took away.
    gone_back = champion("rollback", "--release", "previous", "--reason", "it swears", "--approver", "Ada")
    assert gone_back.code == 0, gone_back.text
    assert live(champion).approver == "Ada"
    withdrawn = champion("full_lifecycle", *ASKED)
    assert withdrawn.code == 3
    assert "ReleaseWithdrawn" in withdrawn.text
