"""A real Slurm of two nodes on this machine: munged, slurmctld and two slurmd, without cgroups, all in one folder."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
START_SECONDS, STOP_SECONDS = 60, 20
PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
CONF = """
ClusterName=lifecycle
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={home}/run/munge,cred_expire=5
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool-%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd-%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/linear
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
KillWait=30
NodeName=node0 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} State=UNKNOWN
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The programs it needs that are not here: apt-get install munge slurmctld slurmd slurm-client."""
    return [name for name in PROGRAMS if shutil.which(name, path=PLACES) is None]


@contextmanager
def slurm() -> Iterator[Path]:
    """Its slurm.conf, while it runs; every daemon is a child of this process and ends with the block."""
    home = Path(tempfile.mkdtemp(prefix="lifecycle-slurm-"))
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        conf = _configure(home)
        daemons += [_start(command, conf) for command in _commands(home)]
        _wait_until_idle(conf, daemons)
        yield conf
    finally:
        _ask(["scancel", "--signal=KILL", "--full", f"--user={os.geteuid()}"], home / "slurm.conf")
        deadline = time.monotonic() + STOP_SECONDS
        while _ask(["squeue", "--noheader"], home / "slurm.conf") and time.monotonic() < deadline:
            time.sleep(0.2)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(home, ignore_errors=True)


def _configure(home: Path) -> Path:
    home.chmod(0o755)  # munged wants its socket to be reachable
    for name, mode in (("run", 0o755), ("munge", 0o700), ("state", 0o700)):
        (home / name).mkdir()
        (home / name).chmod(mode)
    key = home / "munge" / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    host = socket.gethostname().split(".")[0]
    conf = home / "slurm.conf"
    conf.write_text(CONF.format(home=home, host=host, user=user, ports=_free_ports(3), cpus=os.cpu_count()))
    return conf


def _commands(home: Path) -> list[list[str]]:
    munge = {"socket": home / "run/munge", "key-file": home / "munge/key", "pid-file": home / "run/pid"}
    munge |= {"log-file": home / "munge/log", "seed-file": home / "munge/seed"}
    options = [f"--{name}={file}" for name, file in munge.items()]
    return [
        ["munged", "--foreground", "--num-threads=10", *options],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D", "-N", "node0"],
        ["slurmd", "-D", "-N", "node1"],
    ]


def _start(command: Sequence[str], conf: Path) -> "subprocess.Popen[bytes]":
    program = shutil.which(command[0], path=PLACES)
    assert program
    with (conf.parent / "daemons.log").open("ab") as log:
        return subprocess.Popen(
            [program, *command[1:]], env=environment(conf), stdout=log, stderr=log, start_new_session=True
        )


def environment(conf: Path) -> dict[str, str]:
    return {**os.environ, "SLURM_CONF": str(conf), "PATH": PLACES}


def _wait_until_idle(conf: Path, daemons: "Sequence[subprocess.Popen[bytes]]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while _ask(["sinfo", "--noheader", "-o", "%T %D"], conf).strip() != "idle 2":
        log = (conf.parent / "daemons.log").read_text(errors="replace")[-3000:]
        assert time.monotonic() < deadline, log
        assert all(daemon.poll() is None for daemon in daemons), log
        time.sleep(0.1)


def _ask(command: Sequence[str], conf: Path) -> str:
    return subprocess.run(command, env=environment(conf), capture_output=True, text=True, check=False).stdout


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
