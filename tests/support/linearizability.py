"""Is there one order in which what many did at once could have happened one after the other? (Herlihy and Wing 1990.)

The search is Wing and Gong's (1993, "Testing and verifying concurrent objects", JPDC 17:164-182) with Lowe's memory of
the states already tried (2017, "Testing for linearizability", CCPE 29:e3928). The ledger's sequential rules are written
here a second time, from the documentation and not from the code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Line = tuple[str, str]
"""What one entry of the ledger did: promote or rollback, and which release it made live."""
State = tuple[Line, ...]


@dataclass(frozen=True)
class Made:
    """A release: its checkpoint, and the checkpoint its decision compared with."""

    checkpoint: str
    against: str | None


@dataclass(frozen=True)
class Call:
    """One operation: when it was called, when it came back, and with what. A killed one never came back."""

    kind: Literal["promote", "rollback", "read"]
    release: str | None
    expected: str | None
    by_name: bool
    called: int
    returned: float = math.inf
    outcome: str | None = None


def step(state: State, call: Call, made: dict[str, Made]) -> tuple[State, str]:
    """The ledger after one operation alone, and what it answers."""
    live = state[-1][1] if state else None
    if call.kind == "read":
        return state, " ".join(release for _, release in state)
    release = str(call.release)
    if call.kind == "rollback" and release not in {was for _, was in state}:
        return state, "PromotionBlocked"
    if live == release:
        return state, f"entry {len(state) - 1}"
    if call.kind == "promote":
        if not call.by_name and made[release].checkpoint in withdrawn(state, made):
            return state, "ReleaseWithdrawn"
        opponent = made[live].checkpoint if live else None
        if live != call.expected or opponent not in (made[release].against, made[release].checkpoint):
            return state, "PromotionConflict"
    elif live != call.expected:
        return state, "PromotionConflict"
    return (*state, (call.kind, release)), f"entry {len(state)}"


def withdrawn(state: State, made: dict[str, Made]) -> set[str]:
    """Checkpoints that a rollback took away: what it replaced, and what was promoted after what it went back to."""
    gone: set[str] = set()
    for number, (kind, release) in enumerate(state):
        if kind == "rollback":
            was_live = max(n for n in range(number) if state[n][1] == release)
            between = state[was_live + 1 : number]
            gone |= {made[r].checkpoint for k, r in between if k == "promote" or r == state[number - 1][1]}
        gone.discard(made[release].checkpoint)
    return gone


def is_linearizable(calls: Sequence[Call], made: dict[str, Made], final: State) -> bool:
    """Whether some order that respects who came back before whom was called explains every answer and the end.

    An operation that never came back may have happened at any time after its call, or not at all.
    """
    tried: set[tuple[int, State]] = set()
    answered = sum(1 << number for number, call in enumerate(calls) if call.outcome is not None)
    work: list[tuple[int, State]] = [(0, ())]
    while work:
        done, state = work.pop()
        if (done, state) in tried:
            continue
        tried.add((done, state))
        if done & answered == answered and state == final:
            return True
        left = [(number, call) for number, call in enumerate(calls) if not done >> number & 1]
        first_return = min((call.returned for _, call in left), default=math.inf)
        for number, call in left:
            if call.called <= first_return:
                after, outcome = step(state, call, made)
                if call.outcome in (None, outcome):
                    work.append((done | 1 << number, after))
    return False
