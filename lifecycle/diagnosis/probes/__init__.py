"""The probes, a file a problem and one for what `--measure` asks.

A new probe is one function with `@probe`: it reads a run's records and says how it is.

    @probe("knowledge")
    def bits_per_byte(run: Records) -> Seen | str:

It returns what it saw, or why it could not look. It never guesses: no records, no reading.
"""

from lifecycle.diagnosis.probes import asked_otherwise, behaviour, evaluation, knowledge, preference, protocol, runtime
from lifecycle.diagnosis.probes.probe import Probe

PROBES: tuple[Probe, ...] = tuple(
    found
    for module in (knowledge, behaviour, protocol, preference, runtime, evaluation, asked_otherwise)
    for found in vars(module).values()
    if isinstance(found, Probe)
)
