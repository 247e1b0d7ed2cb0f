"""Jobs under Slurm: one supervisor (`workers.node`) on each node, started by srun, owned by the scheduler.

The job's name is its key, so the same command finds it again, in whatever flow. The folder of its call, in the shared
store, is its working directory: `job.sbatch`, what Slurm wrote (`slurm.log`), and the words of its nodes.

Near the time limit, or when Slurm wants the nodes for somebody else, the ranks save and leave with 85; the script then
puts the same job into the queue again. A job that is told to stop by its flow leaves with 85 too, and stays away.
"""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.errors import ConfigError, WorkerFailed
from lifecycle.launchers.board import HEARD_FROM_AFAR, Board
from lifecycle.launchers.environment import worker_settings
from lifecycle.launchers.local import ended, tail
from lifecycle.launchers.shape import Call, Handle, Resources, Status

POLL_SECONDS = 0.5
ASK_SECONDS = 10.0
"""Between two questions to a controller that everybody shares; a second where our own files say it is over."""
ANSWER_SECONDS = 60.0
KILL_SECONDS = 60.0
"""Slurm kills what is left 30 s after a scancel (KillWait), and then takes a moment to say so."""
SCRIPT, LOG = "job.sbatch", "slurm.log"

WAITING = frozenset(
    ("PENDING", "CONFIGURING", "SUSPENDED", "STOPPED", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
)
RUNNING = frozenset(("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT"))
FINDABLE = "PENDING,CONFIGURING,RUNNING,COMPLETING,SUSPENDED,STOPPED,REQUEUED,REQUEUE_HOLD,SPECIAL_EXIT"

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.,:+-]*$", max_length=200)]
"""A value that reaches a command line: nothing that a shell or sbatch reads as anything else."""
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=4096)]


class SlurmSettings(BaseModel):
    """What is asked of Slurm. What is left out, the cluster's defaults decide."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    gres: Word | None = Field(None, description="On each node, like gpu:8 or gpu:h100:8.")
    time: str = Field(
        "24:00:00", pattern=r"^(\d+-)?\d{1,5}(:\d\d){0,2}$", description="The limit, like 90 (minutes) or 1-12:00:00."
    )
    memory: str | None = Field(None, pattern=r"^\d+[KMGT]?$", description="Of each node, like 480G; 0: all of it.")
    cpus_per_node: int | None = Field(None, ge=1, description="Default: one for each thread of each rank.")
    exclusive: bool = Field(False, description="Nobody else on these nodes.")
    save_seconds: int = Field(
        120, ge=10, le=3600, description="Before the time limit is reached, ranks are told to save and leave."
    )
    requeues: int = Field(100, ge=0, description="How often it may go on after its time limit or a preemption.")
    environment: dict[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")], Line] = Field(
        default_factory=dict, description="For the ranks, like NCCL_SOCKET_IFNAME. It lies in a file: no secrets."
    )


class Slurm:
    """A launcher (see `shape.Launcher`). `board` is a folder that the nodes see at the same path."""

    def __init__(self, board: Path, settings: SlurmSettings) -> None:
        self.board, self.settings = Board(board), settings
        self._heard: dict[str, tuple[float, Status]] = {}

    def submit(self, worker: str, folder: Path, key: str, resources: Resources) -> Handle:
        """Put the job into the queue. Of two who do so at once, the first one's job is both's."""
        if there := self.reattach(key):
            return there
        call, home = self.board.post(worker, folder, key, resources)
        (home / SCRIPT).write_text(script(call, home, self.settings))
        try:
            number = _run(["sbatch", "--parsable", SCRIPT], cwd=home).split(";")[0].strip()
        except WorkerFailed:
            shutil.rmtree(home, ignore_errors=True)
            raise
        mine = Handle(key=key, id=f"{number}:{home.name}")
        if (first := self.reattach(key)) and first != mine:
            _run(["scancel", number])
            shutil.rmtree(home, ignore_errors=True)
            return first
        return mine

    def status(self, handle: Handle) -> Status:
        """What Slurm says, asked every ten seconds; how it ended say its own nodes, where they could."""
        over = (self._home(handle) / "ended.json").exists()
        asked, status = self._heard.get(handle.id, (-ASK_SECONDS, Status(state="waiting", reason="Slurm")))
        if time.monotonic() - asked > (1.0 if over else ASK_SECONDS):
            status = self._ask(handle)
            self._heard[handle.id] = time.monotonic(), status
        return status

    def logs(self, handle: Handle, *, last: int) -> list[str]:
        """The last lines of the job, of its other nodes, and of Slurm."""
        home = self._home(handle)
        return [*self.board.logs(home, last), *(f"slurm: {line}" for line in tail(home / LOG, last))]

    def cancel(self, handle: Handle, *, grace_seconds: float) -> None:
        """Ask every node to stop and wait; what is left then Slurm ends. WorkerFailed when it does not."""
        home, number = self._home(handle), _number(handle)
        if self._is_active(handle):
            (home / "stop").touch()
            if (home / "node-0.json").exists():  # it has begun
                self._wait(handle, grace_seconds)
            _run(["scancel", number], check=False)
            if not self._wait(handle, KILL_SECONDS):
                raise WorkerFailed(
                    f"expected Slurm to end job {number} within {KILL_SECONDS:.0f} s, found it still there. Look at "
                    f"`scontrol show job {number}`, and start nothing on {handle.key} before it is gone."
                )
        self._heard.pop(handle.id, None)
        shutil.rmtree(home, ignore_errors=True)

    def reattach(self, key: str) -> Handle | None:
        """The oldest job of this name that runs or waits."""
        user = str(os.geteuid())
        said = _run(["squeue", "--noheader", f"--user={user}", f"--name={key}", f"--states={FINDABLE}", "-o", "%A %Z"])
        jobs = [line.split(maxsplit=1) for line in said.splitlines() if line.strip()]
        found = sorted((int(number), Path(home).name) for number, home in jobs if self.board.has(home))
        return Handle(key=key, id=f"{found[0][0]}:{found[0][1]}") if found else None

    def _home(self, handle: Handle) -> Path:
        return self.board.folder / handle.id.partition(":")[2]

    def _is_active(self, handle: Handle) -> bool:
        """Whether Slurm has it in its queue, as far as it answers."""
        try:
            return _field("JobState", _told(_number(handle))) in WAITING | RUNNING
        except WorkerFailed:
            return True

    def _wait(self, handle: Handle, seconds: float) -> bool:
        """Whether the job was over before that."""
        deadline = time.monotonic() + seconds
        while active := self._is_active(handle):
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        return not active

    def _ask(self, handle: Handle) -> Status:
        """The state of the job. Silence of the controller says nothing about it: nodes work on without."""
        number = _number(handle)
        try:
            said = _told(number)
        except WorkerFailed as error:
            return Status(state="waiting", reason=f"Slurm's controller: {error}")
        home = self._home(handle)
        state, reason, code = (_field(name, said) for name in ("JobState", "Reason", "ExitCode"))
        if lost := self.board.lost(home, runs=state == "RUNNING"):
            return Status(state="lost", reason=f"{lost} (job {number})")
        if state in WAITING:
            return Status(state="waiting", reason=f"Slurm: {state.lower()} ({reason}), job {number}")
        if state in RUNNING:
            waits_for = self.board.waits_for(home)
            return Status(state="waiting" if waits_for else "running", reason=waits_for)
        status = ended(home, int(code.partition(":")[0] or 0) or 1)
        if (home / "ended.json").exists():
            return status
        how = f"Slurm: {state.lower()} ({reason}), and its nodes did not say why" if state else "Slurm forgot the job"
        return status.model_copy(update={"reason": f"{how} (job {number})"})


def script(call: Call, home: Path, settings: SlurmSettings) -> str:
    """What sbatch is given. Values that come from settings are checked words, or quoted."""
    options = {
        "job-name": call.key,
        "dependency": "singleton",  # should two of this name be there, the second waits: two never write at once
        "nodes": call.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": settings.cpus_per_node or (call.ranks or 1) * call.threads,
        "time": settings.time,
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "gres": settings.gres,
        "mem": settings.memory,
        "signal": f"B:TERM@{settings.save_seconds}",
        "output": LOG,
        "open-mode": "append",
        "export": "NONE",  # what the flow has in its environment, passwords too, would lie in Slurm's spool
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    lines += ["#SBATCH --requeue", *(["#SBATCH --exclusive"] if settings.exclusive else [])]
    variables = {
        **worker_settings(call.threads),
        **HEARD_FROM_AFAR,
        **({"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}),
        **settings.environment,
        "LIFECYCLE_PYTHON": sys.executable,
        "LIFECYCLE_CALL": str(home),
        "LIFECYCLE_REQUEUES": str(settings.requeues),
    }
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    return "\n".join(["#!/bin/bash -l", *lines, BODY])


BODY = """cd "$LIFECYCLE_CALL" || exit 1
rm -rf attempt.json ended.json stop node-*.json ranks-*  # of its life before a requeue

told=
trap 'told=1; touch stop' TERM
srun --export=ALL --kill-on-bad-exit=0 --wait=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" /bin/bash -c \\
    'exec "$LIFECYCLE_PYTHON" -m lifecycle.workers.node "$PPID" "$LIFECYCLE_CALL" "$SLURM_PROCID"' &
step=$!
wait "$step"; code=$?
while kill -0 "$step" 2> /dev/null; do wait "$step"; code=$?; done  # a signal ends a wait, not the step

# Told by Slurm, not by its flow: it goes on when there are nodes again. One that was cancelled is completing by now.
if [ "$code" = 85 ] && [ -n "$told" ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$LIFECYCLE_REQUEUES" ] \\
    && [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" -o %T)" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def _number(handle: Handle) -> str:
    return handle.id.partition(":")[0]


def _field(name: str, said: str) -> str:
    match = re.search(rf"(?:^| ){name}=(\S+)", said)
    return match[1] if match else ""


def _told(number: str) -> str:
    """What Slurm knows about a job, as NAME=VALUE words; empty when it has forgotten it."""
    try:
        return _run(["scontrol", "show", "job", "--oneliner", number])
    except WorkerFailed as error:
        if "Invalid job id" in str(error):
            return _accounting(number)
        raise


def _accounting(number: str) -> str:
    """The same of a job that the controller has forgotten (MinJobAge), where there is a database."""
    wanted = ["--noheader", "--parsable2", "--allocations", "--format=State,Reason,ExitCode", f"--jobs={number}"]
    with contextlib.suppress(WorkerFailed):
        for line in _run(["sacct", *wanted]).splitlines():
            state, reason, code = line.split("|")
            return f"JobState={state.split()[0]} Reason={reason or 'None'} ExitCode={code}"  # CANCELLED by 1000
    return ""


def _run(command: list[str], *, cwd: Path | None = None, check: bool = True) -> str:
    """What a command of Slurm prints. Its own variables stay behind: they would override what the script says."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SBATCH_", "SLURM_"))}
    inherited |= {name: os.environ[name] for name in ("SLURM_CONF", "SLURM_CONF_SERVER") if name in os.environ}
    try:
        ran = subprocess.run(
            command, cwd=cwd, env=inherited, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise ConfigError(
            f"expected Slurm's commands on this machine, found no {command[0]}. Start the flow where one can submit "
            "jobs, or choose another launcher."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise WorkerFailed(f"expected {command[0]} to answer within {ANSWER_SECONDS:.0f} s, found silence.") from error
    if check and ran.returncode:
        raise WorkerFailed(f"expected {' '.join(command[:2])} to work, found: {ran.stderr.strip()[-500:]}")
    return ran.stdout
