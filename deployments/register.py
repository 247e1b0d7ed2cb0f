"""Tell a Prefect server all that runs by itself: pools, slots, deployments, automations. Repeating it changes nothing.

    python deployments/register.py --accelerators 8 --webhook-file secrets/webhook_url

For the server of PREFECT_API_URL. The deployments are those of prefect.yaml; `prefect deploy` alone would do for them.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import alerts
import automations
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists

from tasks.accelerators import LIMIT

ROOT = Path(__file__).resolve().parents[1]
URGENT = "urgent"
"""Queue of what a person waits for: promote, rollback, restart."""
POOLS = ("lifecycle-cpu", "lifecycle-gpu")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--accelerators", type=int, metavar="N", help="how many jobs on all machines may use at once; default: any"
    )
    parser.add_argument("--webhook-file", type=Path, metavar="FILE", help="its one line is the URL that alerts go to")
    parser.add_argument(
        "--email-file", type=Path, metavar="FILE", help="the same for e-mail: mailtos://user:...@host?to="
    )
    parser.add_argument(
        "--silence-seconds", type=int, default=150, metavar="S", help="no heartbeat for this long: crashed"
    )
    options = parser.parse_args(arguments)
    with get_client(sync_client=True) as client:
        for pool in POOLS:
            _pool(client, pool)
        if options.accelerators is not None:
            client.upsert_global_concurrency_limit_by_name(LIMIT, options.accelerators)
        deploy()
        restart = client.read_deployment_by_name("restart/restart")
        wanted = [automations.dead_runs(options.silence_seconds, restart.id), automations.restarts(restart.id)]
        wanted += alerts.alerts(alerts.channels(options.webhook_file, options.email_file))
        for automation in wanted:
            _automation(client, automation)
    return 0


def deploy() -> None:
    """Every entry of prefect.yaml, from the repository's root, as `prefect deploy` wants it."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", "deployments/prefect.yaml"]
    subprocess.run([*command, "--all"], cwd=ROOT, check=True)


def _pool(client: SyncPrefectClient, name: str) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    except ObjectAlreadyExists:
        print(f"pool {name} is there")
    with suppress(ObjectAlreadyExists):  # first in line; `prefect deploy` would make it the last
        client.create_work_queue(name=URGENT, work_pool_name=name, priority=1)


def _automation(client: SyncPrefectClient, wanted: AutomationCore) -> None:
    """Create it, or bring the one of that name to what it should be."""
    found = client.read_automations_by_name(wanted.name)
    for one in found[:1]:
        client.update_automation(one.id, wanted)
    for double in found[1:]:
        client.delete_automation(double.id)
    if not found:
        client.create_automation(wanted)
    print(f"automation {wanted.name!r} {'is as it should be' if found else 'is new'}")


if __name__ == "__main__":
    raise SystemExit(main())
