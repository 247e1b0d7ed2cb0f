"""A house's accelerators, shared out among runs on all its machines by a limit of the Prefect server.

`deployments/register.py --accelerators 8` sets the limit; without one everybody may enter. A slot is leased: the server
takes it back a minute after its holder died. What holds without a server, on each machine, is `launchers.accelerators`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from lifecycle import progress
from lifecycle.errors import ConfigError

LIMIT = "accelerators"
LEASE_SECONDS = 60
"""The shortest that Prefect grants; renewed every 45 s. `strict` alone would end the run when a renewal fails, which is
what happens when the server is restarted."""


@dataclass(frozen=True)
class PrefectSlots:
    """A doorkeeper (see `launchers.admission`) for one run."""

    run: str

    @contextmanager
    def admit(self, accelerators: int) -> Iterator[None]:
        """Hold that many slots of the limit, where there is one, and wait for them.

        Raises ConfigError when the limit is smaller: it would wait for ever.
        """
        limit = _limit()
        if limit is None:
            yield
            return
        if limit < accelerators:
            raise ConfigError(
                f"expected a limit {LIMIT!r} of at least {accelerators}, one a rank of this job, found {limit} on the "
                "Prefect server. Lower the stage's ranks, or raise it: deployments/register.py --accelerators N"
            )
        progress.report(0, 0, "steps", f"waiting for {accelerators} of the {limit} slots of {LIMIT!r}")
        with concurrency(
            LIMIT, accelerators, lease_duration=LEASE_SECONDS, strict=True, raise_on_lease_renewal_failure=False
        ):
            yield


def _limit() -> int | None:
    """How many there are to share out; None where nobody said."""
    with get_client(sync_client=True) as client:
        try:
            found = client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            return None
    return found.limit if found.active else None
