"""One job per accelerator over all machines of a house: a slot that outlives a server, and not its holder."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow

LEASE_AND_LOOK_SECONDS = 60 + 15 + 10  # the lease, how often Prefect looks for expired ones, and a busy machine

HOLDER = """
import sys, time
from tasks.accelerators import PrefectSlots
with PrefectSlots("test").admit(int(sys.argv[1])):
    print("in", flush=True)
    time.sleep(float(sys.argv[2]))
print("out", flush=True)
"""


def taken(house) -> int:
    return int(house.api("GET", "/v2/concurrency_limits/accelerators")["active_slots"])


def holder(house, slots: int, seconds: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLDER, str(slots), str(seconds)]
    return subprocess.Popen(command, env=house.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() in ("in", "out"):
            return line.strip()
    return "nothing"


def test_a_slot_survives_the_server_and_not_its_holder(house):
    house.stop_workers()
    house.wait_for(lambda: taken(house) == 0, LEASE_AND_LOOK_SECONDS, every=1)
    patient, killed = holder(house, 2, 40), holder(house, 2, 600)
    assert (said(patient), said(killed), taken(house)) == ("in", "in", 4)
    killed.kill()
    killed.wait()
    died = time.monotonic()

    # The server dies and comes back: who holds a slot works on, and still holds it.
    os.kill(int((house.home / "servers/prefect.pid").read_text().split()[0]), signal.SIGKILL)
    time.sleep(2)
    house.servers("start")
    assert patient.poll() is None
    assert taken(house) == 4
    assert said(patient) == "out"
    assert patient.wait(60) == 0
    house.wait_for(lambda: taken(house) == 0, LEASE_AND_LOOK_SECONDS, every=1)
    assert time.monotonic() - died <= LEASE_AND_LOOK_SECONDS


def test_a_job_for_more_than_the_house_has_is_refused_and_does_not_wait_for_ever(house):
    with pytest.raises(AssertionError, match=r"ConfigError: expected a limit 'accelerators' of at least 9"):
        house.program("-c", HOLDER, "9", "0")
