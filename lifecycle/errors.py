"""Every error a user can meet, with the exit code it ends a run with.

    LifecycleError              1   a run failed
    ├── ConfigError             2   a setting is unknown, missing or contradicts another
    ├── InputError              2   a file we were pointed at is missing, unreadable or not what it should be
    ├── StoreError              2   the artifact store cannot be read or written
    ├── ContractError           1   two artifacts do not fit together; nothing was trained on them
    ├── CanaryRed               1   a canary's stage gave a number out of the range its recipe expects
    ├── DamagedArtifact         1   a sealed file no longer matches its digest
    ├── StaleArtifact           1   the code changed since a costly artifact was made
    ├── TrainingDiverged        1   a loss or gradient stopped being a number
    ├── WorkerFailed            1   a training or evaluation process died or reported an error
    │   ├── WorkerLost          1   it died with a task in its hands, which was tried again in vain
    │   └── Preempted          85   a worker was told to stop, saved, and can go on
    ├── PromotionConflict       1   somebody else moved the live release meanwhile
    ├── TrackingUnavailable     1   a promotion needs the tracker, and it does not answer
    └── PromotionBlocked        3   the gate said no, or could not say yes
        ├── ReleaseWithdrawn    3   it was live, and somebody rolled it back
        └── ApprovalMissing     3   its policy asks for a person's approval, and nobody gave it

A message has three parts: what was expected, what was found, what to do.
"""

from typing import ClassVar


class LifecycleError(Exception):
    """A failure with a reason a person can act on."""

    exit_code: ClassVar[int] = 1


class ConfigError(LifecycleError):
    """A setting is unknown, missing or contradicts another."""

    exit_code = 2


class InputError(LifecycleError):
    """A file we were pointed at is missing, unreadable or not what it should be."""

    exit_code = 2


class StoreError(LifecycleError):
    """The artifact store cannot be read or written."""

    exit_code = 2


class ContractError(LifecycleError):
    """Two artifacts do not fit together."""


class CanaryRed(LifecycleError):
    """A stage of a canary gave a number that its recipe does not expect; the message holds every line that broke."""


class DamagedArtifact(LifecycleError):
    """A sealed file no longer matches its digest."""


class StaleArtifact(LifecycleError):
    """The code changed since a costly artifact was made."""


class TrainingDiverged(LifecycleError):
    """A loss or gradient stopped being a number; the message names the step and its rows."""


class WorkerFailed(LifecycleError):
    """A worker process died or reported an error."""


class WorkerLost(WorkerFailed):
    """A worker died with a task in its hands: trying the task again can help."""


class Preempted(WorkerFailed):
    """A worker was told to stop, saved a checkpoint, and can go on from it."""

    exit_code = 85


class PromotionConflict(LifecycleError):
    """The live release is not the one this promotion was decided against."""


class TrackingUnavailable(LifecycleError):
    """The tracker did not answer where the run cannot do without it: nothing is promoted that is not on record."""


class PromotionBlocked(LifecycleError):
    """The gate did not say PROMOTE for exactly this checkpoint."""

    exit_code = 3


class ReleaseWithdrawn(PromotionBlocked):
    """This checkpoint was live and somebody rolled it back: it returns only when a person asks for it by name."""


class ApprovalMissing(PromotionBlocked):
    """The policy it was gated by asks for a person's approval: it goes live by name, with an approver."""
