"""What people are told, on a webhook and by e-mail, and that they are told once: real server, local receivers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import pytest
from receivers import mail_receiver, web_receiver

pytestmark = pytest.mark.slow  # 40 s beside the servers' start

TOKEN = "wh-3f9c61d2a7"
TOMORROW = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2099-01-01T00:00:00Z"}}  # no worker takes it
NOTHING = {"request": {"recipe": "nobody_has_this_recipe"}}  # should a worker start one again, it has nothing to do
FULL, CANARY = "full-lifecycle/full-lifecycle", "full-lifecycle/canary"


@dataclass
class Told:
    """What arrived so far, on both channels, and a way to know that nothing more is on its way."""

    house: object
    posted: list[bytes]
    mails: list[EmailMessage]
    sentinels: int = 0

    def about(self, run: str) -> list[str]:
        """Subjects of the posted alerts about a run."""
        return [alert["subject"] for alert in map(json.loads, self.posted) if alert["run"] == run]

    def mailed(self, run: str) -> list[str]:
        return [mail["Subject"] for mail in self.mails if run in _text(mail)]

    def settle(self) -> None:
        """Events are evaluated in their order: once a later one has arrived, all before it have."""
        self.sentinels += 1
        name = f"sentinel-{self.sentinels}"
        end(self.house, FULL, name, "FAILED", "Blocked")
        self.house.wait_for(lambda: self.about(name) and self.mailed(name), 60)


@pytest.fixture(scope="module")
def told(house) -> Iterator[Told]:
    with web_receiver() as (web, posted), mail_receiver() as (mail, mails):
        webhook, email = house.home / "webhook", house.home / "email"
        webhook.write_text(f"http://127.0.0.1:{web}/{TOKEN}\n")
        email.write_text(f"mailto://127.0.0.1:{mail}?from=house@example.org&to={TOKEN}@example.org&mode=insecure\n")
        known = {one["id"] for one in house.api("POST", "/automations/filter", limit=100)}
        files = ("--webhook-file", str(webhook), "--email-file", str(email))
        house.program("deployments/register.py", "--silence-seconds", "65", *files)
        yield Told(house, posted, mails)
        for one in house.api("POST", "/automations/filter", limit=100):
            if one["id"] not in known:
                house.api("DELETE", f"/automations/{one['id']}")
        # What the automation for crashes has started meanwhile must not run when a later test starts a worker.
        for run in house.runs(deployments={"name": {"any_": ["restart"]}}):
            house.api("DELETE", f"/flow_runs/{run['id']}")


def _text(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def end(house, deployment: str, name: str, kind: str, state: str, message: str = "", times: int = 1) -> str:
    """A run of a deployment that ends in a state, told to the server as often as a worker that tries again would."""
    found = house.api("GET", f"/deployments/name/{deployment}")
    asked = {"name": name, "state": TOMORROW, "parameters": NOTHING, "enforce_parameter_schema": False}
    run = house.api("POST", f"/deployments/{found['id']}/create_flow_run", **asked)["id"]
    for _ in range(times):
        house.api("POST", f"/flow_runs/{run}/set_state", state={"type": "RUNNING"}, force=True)
        ended = {"type": kind, "name": state, "message": message}
        house.api("POST", f"/flow_runs/{run}/set_state", state=ended, force=True)
    return run


def test_a_blocked_gate_is_told_once_in_json_that_no_message_can_break(house, told):
    message = 'contract."exact" <script>\n{{ 7 * 7 }} did not pass'
    end(house, FULL, "blocked-one", "FAILED", "Blocked", message, times=3)
    told.settle()
    assert told.about("blocked-one") == ["gate blocked"]
    assert told.mailed("blocked-one") == ["lifecycle: gate blocked"]
    (alert,) = [alert for alert in map(json.loads, told.posted) if alert["run"] == "blocked-one"]
    assert alert["message"] == message
    assert alert["event"] == "prefect.flow-run.Blocked"


def test_a_crash_is_told_once_and_those_of_its_restarts_are_not(house, told):
    end(house, FULL, "dies", "CRASHED", "Crashed", "no heartbeat", times=2)
    end(house, FULL, "dies restart 1", "CRASHED", "Crashed", "no heartbeat")
    end(house, "restart/restart", "counts", "COMPLETED", "GivenUp", "dies was started again 3 times")
    told.settle()
    assert told.about("dies") == ["run crashed"]
    assert told.about("dies restart 1") == []
    assert told.about("counts") == ["run given up"]


def test_a_red_canary_is_one_alert_and_not_a_crash_or_a_blocked_gate_too(house, told):
    message = "CanaryRed: canary red: corpus kept_share: expected 0.93 to 0.95, found 0.31"
    end(house, CANARY, "night", "FAILED", "Failed", message)
    end(house, CANARY, "another-night", "FAILED", "Blocked")
    end(house, CANARY, "dropped-night", "CANCELLED", "Cancelled", "Deployment concurrency limit reached.")
    end(house, CANARY, "missed-night", "CANCELLED", "Missed", "another night makes up for it")
    told.settle()
    assert told.about("night") == ["canary red"]
    assert told.about("another-night") == ["canary red"]
    assert told.about("dropped-night") == ["canary red"], "nobody would miss it"
    assert told.about("missed-night") == []
    assert any(message in _text(mail).replace("\n", " ") for mail in told.mails)


def test_whom_a_run_waits_for_is_told(house, told):
    end(house, FULL, "waits", "COMPLETED", "AwaitingApproval")
    end(house, FULL, "well", "COMPLETED", "Released")
    told.settle()
    assert told.about("waits") == ["approval awaited"]
    assert told.about("well") == []


NEWS = """
import sys, time
from types import SimpleNamespace
from prefect import flow
from tasks import budget, events

budget.LEAST_SECONDS = 0.1
run = SimpleNamespace(name="slow-run", page=None)
session = SimpleNamespace(run=run, expected_seconds={"sft": 0.01}, display=SimpleNamespace(say=print))

@flow
def news():
    for _ in range(2):  # a stage that is tried again
        with budget.watching_stage(session, "sft", "sft"):
            time.sleep(0.4)
        with budget.watching_stage(session, "gate", "gate"):  # nobody knows what it takes: no alarm
            pass
        events.tell(events.CHAMPION_CHANGED, "entry-" + sys.argv[1], "tiny-records", "promote: ab12 is live", {})

news()
"""


def test_a_spent_budget_and_another_champion_are_told_once_also_after_the_server_was_killed(house, told):
    house.program("-c", NEWS, "1")
    house.wait_for(lambda: told.about("tiny-records") and told.about("slow-run"), 60)
    told.settle()
    assert told.about("slow-run") == ["budget exceeded"]
    assert told.about("tiny-records") == ["champion changed"]

    os.kill(int((house.home / "servers/prefect.pid").read_text().split()[0]), signal.SIGKILL)
    time.sleep(1)
    house.servers("start")
    house.program("-c", NEWS, "1")  # the same entry of the ledger, told by a run that goes on after a crash
    house.program("-c", NEWS, "2")
    house.wait_for(lambda: len(told.about("tiny-records")) == 2, 60)
    told.settle()
    assert told.about("tiny-records") == ["champion changed"] * 2


def test_no_address_of_a_channel_is_in_an_automation_a_block_a_log_or_the_database(house, told):
    told.settle()
    assert any(TOKEN in str(mail["To"]) for mail in told.mails), "it is what is really used"
    seen = [house.api("POST", f"/{what}/filter", limit=200) for what in ("automations", "block_documents")]
    assert TOKEN not in json.dumps(seen)
    assert TOKEN not in (house.home / "servers/log/prefect.log").read_text(errors="replace")
    port = json.loads((house.home / "servers/ports.json").read_text())["postgres"]
    passwords = {**os.environ, "PGPASSFILE": str(house.home / "servers/secrets/pgpass")}
    dump = subprocess.run(
        ["pg_dump", "-h", "127.0.0.1", "-p", str(port), "-U", "lifecycle", "prefect"],
        env=passwords,
        capture_output=True,
        check=True,
    ).stdout
    assert b"lifecycle: champion changed" in dump
    assert TOKEN.encode() not in dump


def test_an_address_file_of_several_lines_is_refused_before_anything_is_saved(tmp_path):
    file = tmp_path / "webhook"
    file.write_text("http://one\nhttp://two\n")
    deployments = Path(__file__).parents[2] / "deployments"
    said = subprocess.run(
        [sys.executable, "-c", f"import alerts, pathlib; alerts.channels(pathlib.Path({str(file)!r}), None)"],
        cwd=deployments,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 1
    assert "expected one line, an address" in said.stderr
