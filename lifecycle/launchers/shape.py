"""What every launcher can do, and the words that travel between it, the stages and the nodes.

A launcher runs a *job*: a worker module and a folder that holds its job.json. What the job does is not its affair.

**Keys.** A job's key comes from the folder of the artifact it makes, which is named after that artifact's identity.
The same command, given again after its flow died, therefore asks for the same key, and `reattach` says whether a job of
that key is still there. What it can find depends on who owns the processes:

| launcher | the ranks' parent | flow killed with -9 | `reattach` in the next flow |
|---|---|---|---|
| `local` | the flow | they die within 2 s (P6) | nothing is left: the job resumes from its checkpoint |
| `static_nodes` | the agent of each node (`python -m lifecycle join`) | the job goes on | attaches to it |
| Slurm, Kubernetes | the scheduler | the job goes on | attaches; a name that exists is the job, not an error |

So P6 holds everywhere: no process outlives its *parent*. Which jobs outlive the *flow* is a launcher's kind.

Others' shapes, and what is different here: torchx's `Scheduler` (submit, describe, log_iter, cancel, exists) hands out
ids by chance, and submitit's `Job` lives in the process that made it: neither finds a job again from what it computes.
dask-jobqueue renders a script for each scheduler behind one class, as launchers for schedulers will here: what they
start on each node is `workers.node`, so the hang watch and restarts are the same in every place.
"""

from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from lifecycle.sealing import short_digest


class Resources(BaseModel):
    """What a job asks of the place it runs in."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    ranks: int | None = None
    """Processes on each node, under `torch.distributed.run`; None: one plain process."""
    nodes: int = 1
    threads: int = 1
    """Of each process."""
    accelerators: int = 0
    """On each node, which no other job may use meanwhile (`launchers.accelerators`); 0: it computes on the CPU."""
    hang_timeout_seconds: float | None = None
    """How long a rank may stand still before all are ended; None: nobody watches."""
    start_timeout_seconds: float = 1800.0
    """The same for a rank that has not finished a step yet."""
    max_restarts: int = 0


class Call(Resources):
    """What a node reads in call.json: the job, and what it asks for. No secret: each node has its own environment."""

    worker: str
    folder: str
    key: str
    run: str = ""
    """Whose job it is: for those that wait for the same accelerators."""
    posted: float


class Handle(BaseModel):
    """Names a submitted job, for whoever has a launcher of the same kind. Plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    key: str
    id: str
    """What the place itself calls it: a folder, a number, a name."""


class Status(BaseModel):
    """How a job is."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    state: Literal["waiting", "running", "ended", "lost"]
    exit_code: int | None = None
    reason: str = ""
    """Why it waits, ended or was lost, as far as the exit code does not say it."""


class Launcher(Protocol):
    """A kind of place where jobs run. Every method may be called by a process that did not submit the job."""

    def submit(self, worker: str, folder: Path, key: str, resources: Resources) -> Handle:
        """Start `python -m <worker> <folder>`; where a job of this key is there already, that one."""
        ...

    def status(self, handle: Handle) -> Status:
        """How the job is now. Cheap: asked several times a second."""
        ...

    def logs(self, handle: Handle, *, last: int) -> list[str]:
        """The last lines the job wrote."""
        ...

    def cancel(self, handle: Handle, *, grace_seconds: float) -> None:
        """Have the job save and end; kill what is left after the grace. One that has ended is only forgotten."""
        ...

    def reattach(self, key: str) -> Handle | None:
        """The job of this key, when it runs or waits; None when it does not, or never did."""
        ...


def key_of(out_dir: Path, worker: str) -> str:
    """The key of the job that makes what will lie in a folder: `pretrain-2b1c...-9f0e1d2c-5a6b7c8d`.

    Stage and identity are the folder's own names. Its path is digested, because one cluster may serve many stores; the
    worker is in it too, because a stage may start several. Fit for a Kubernetes name: 63 of a-z, 0-9 and -.
    """
    digest = short_digest([str(out_dir.absolute()), worker])
    name = f"{out_dir.parent.name}-{out_dir.name}".lower().replace("_", "-")
    return (
        "".join(letter for letter in name if letter.isascii() and (letter.isalnum() or letter == "-"))[:54].strip("-")
        + f"-{digest}"
    )
