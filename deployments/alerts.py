"""What people are told, and once: a blocked gate, a red canary, a crash, a spent budget, an approval asked for, another
champion. Each is an automation of the Prefect server, so that it is told when the machine that ran is gone.

    python deployments/register.py --webhook-file secrets/webhook_url --email-file secrets/email_url

The same news of the same run comes once: each automation keeps a bucket per run (per ledger entry, per budget) in the
server's database and stays quiet for 30 days after it spoke. A run that was started again after a crash is not another
run: `flows.restart` names it "... restart 1", and crashes of those are told only when the last restart is used up.
Address and password of a channel are in a block, encrypted: no automation, parameter or log holds them.
"""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast
from uuid import UUID

from prefect.blocks.notifications import SlackWebhook
from prefect.blocks.webhook import Webhook
from prefect.events.actions import ActionTypes, CallWebhook, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from pydantic import SecretStr

QUIET = timedelta(days=30)
WEBHOOK, EMAIL = "lifecycle-alerts", "lifecycle-alerts-email"
"""Names of the blocks that hold where alerts go."""

CANARY = "canary"
"""The deployment that has a subject of its own: whatever ends it other than well is one alert, not two."""
RESTARTED = "* restart *"


class Alert(NamedTuple):
    """A subject, the events that say it, and which runs it is about."""

    subject: str
    events: tuple[str, ...]
    resource: str = "prefect.flow-run.*"
    name: str | None = None
    deployment: str | None = None


ALERTS = (
    Alert("gate blocked", ("prefect.flow-run.Blocked", "prefect.flow-run.Inconclusive"), deployment=f"!{CANARY}"),
    Alert("approval awaited", ("prefect.flow-run.AwaitingApproval",)),
    Alert(
        "canary red",
        tuple(
            f"prefect.flow-run.{state}"
            for state in ("Failed", "Crashed", "Blocked", "Inconclusive", "Late", "Cancelled")
        ),
        name=f"!{RESTARTED}",
        deployment=CANARY,
    ),
    Alert(
        "run crashed",
        ("prefect.flow-run.Crashed", "prefect.flow-run.Failed"),
        name=f"!{RESTARTED}",
        deployment=f"!{CANARY}",
    ),
    Alert("run given up", ("prefect.flow-run.GivenUp",)),
    Alert("budget exceeded", ("lifecycle.budget.exceeded",), resource="lifecycle.budget.*"),
    Alert("champion changed", ("lifecycle.champion.changed",), resource="lifecycle.champion.*"),
)


def alerts(channels: Sequence[UUID | None]) -> list[AutomationCore]:
    """One automation per kind of news, told on a webhook, by e-mail, or both: block documents, None for no such one."""
    webhook, email = channels
    return [_automation(alert, webhook, email) for alert in ALERTS] if webhook or email else []


def channels(webhook_file: Path | None, email_file: Path | None) -> tuple[UUID | None, UUID | None]:
    """Blocks of the server that hold the addresses in these files, one line each, readable by their owner only."""
    webhook = _webhook(_line(webhook_file)) if webhook_file else None
    # Apprise speaks SMTP from the server itself, so an alert needs no worker: mailtos://user:password@host:587?to=...
    # Prefect 3.8 saves no block of Apprise's alone; its Slack block hands it every address that is not Slack's.
    email = SlackWebhook(url=SecretStr(_line(email_file))) if email_file else None
    saved = [block and block.save(name, overwrite=True) for block, name in ((webhook, WEBHOOK), (email, EMAIL))]
    return cast("tuple[UUID | None, UUID | None]", tuple(saved))


def _automation(alert: Alert, webhook: UUID | None, email: UUID | None) -> AutomationCore:
    match = {"prefect.resource.id": alert.resource} | ({"prefect.resource.name": alert.name} if alert.name else {})
    related = {"prefect.resource.role": "deployment", "prefect.resource.name": alert.deployment}
    actions: list[ActionTypes] = []
    if webhook:
        actions.append(CallWebhook(block_document_id=webhook, payload=_as_json(alert)))
    if email:
        body = "{{ event.resource.name }}: {{ event.resource['prefect.state-message'] }}\n\n{{ event.occurred }}"
        actions.append(SendNotification(block_document_id=email, subject=f"lifecycle: {alert.subject}", body=body))
    return AutomationCore(
        name=f"lifecycle: {alert.subject}",
        description="Told once per run; what is told and where is in deployments/alerts.py.",
        trigger=EventTrigger(
            match=cast("Any", match),
            match_related=cast("Any", related if alert.deployment else {}),
            expect=set(alert.events),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=QUIET,
        ),
        actions=actions,
    )


def _as_json(alert: Alert) -> str:
    """A template of a JSON object. Names and messages come from runs: only `tojson` may put them into it."""
    told = {
        "run": "event.resource.name",
        "message": "event.resource['prefect.state-message']",
        "event": "event.event",
        "about": "event.resource.id",
    }
    fields = [f'"subject": {json.dumps(alert.subject)}']
    fields += [f'"{name}": {{{{ {value} | string | tojson }}}}' for name, value in told.items()]
    return "{" + ", ".join([*fields, '"at": "{{ event.occurred }}"']) + "}"


def _webhook(address: str) -> Webhook:
    return Webhook(method="POST", url=SecretStr(address), headers={"Content-Type": "application/json"})


def _line(file: Path) -> str:
    address = file.read_text(encoding="utf-8").strip()
    if not address or len(address.splitlines()) != 1:
        raise SystemExit(f"expected one line, an address, in {file}, found {len(address.splitlines())}. Mend the file.")
    return address
