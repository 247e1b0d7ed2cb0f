"""Many processes promote, roll back and read at once, some are killed: what they saw fits one order of events."""

import json
import subprocess
import sys
from pathlib import Path

import ledger_races
import pytest
from linearizability import Call, Made, is_linearizable
from releases import store_in_memory

MADE = {"a": Made("a", None), "ba": Made("b", "a"), "ca": Made("c", "a"), "cb": Made("c", "b")}
A = Call("promote", "a", None, False, called=0, returned=1, outcome="entry 0")


def promote(release, expected, called, returned=float("inf"), outcome=None):
    return Call("promote", release, expected, False, called, returned, outcome)


def read(called, returned, *releases):
    return Call("read", None, None, False, called, returned, " ".join(releases))


def ended(*lines):
    return tuple(tuple(line.split()) for line in lines)


def test_one_after_the_other_is_linearizable():
    calls = [A, promote("ba", "a", 2, 3, "entry 1"), read(4, 5, "a", "ba")]
    assert is_linearizable(calls, MADE, ended("promote a", "promote ba"))


def test_a_read_beside_a_promotion_may_see_it_or_not_but_not_see_it_vanish():
    beside = promote("ba", "a", 2, 9, "entry 1")
    end = ended("promote a", "promote ba")
    assert is_linearizable([A, beside, read(3, 4, "a"), read(5, 6, "a", "ba")], MADE, end)
    assert not is_linearizable([A, beside, read(3, 4, "a", "ba"), read(5, 6, "a")], MADE, end)


def test_a_read_after_a_promotion_came_back_must_see_it():
    calls = [A, promote("ba", "a", 2, 3, "entry 1"), read(4, 5, "a")]
    assert not is_linearizable(calls, MADE, ended("promote a", "promote ba"))


def test_two_that_both_replaced_the_same_release_are_not_linearizable():
    calls = [A, promote("ba", "a", 2, 5, "entry 1"), promote("ca", "a", 2, 5, "entry 1")]
    assert not is_linearizable(calls, MADE, ended("promote a", "promote ba"))
    loser = promote("ca", "a", 2, 5, "PromotionConflict")
    assert is_linearizable([A, calls[1], loser], MADE, ended("promote a", "promote ba"))


def test_a_killed_promotion_may_have_happened_or_not_but_nothing_else():
    killed = promote("ba", "a", 2)
    assert is_linearizable([A, killed], MADE, ended("promote a"))
    assert is_linearizable([A, killed], MADE, ended("promote a", "promote ba"))
    assert not is_linearizable([A, killed], MADE, ended("promote a", "promote ca"))
    assert not is_linearizable([A, killed, read(3, 4, "a", "ba")], MADE, ended("promote a"))


def test_a_rolled_back_release_that_returns_by_itself_is_not_linearizable():
    back = Call("rollback", "a", "ba", False, called=4, returned=5, outcome="entry 2")
    begin = [A, promote("ba", "a", 2, 3, "entry 1"), back]
    history = ("promote a", "promote ba", "rollback a")
    assert is_linearizable([*begin, promote("ba", "a", 6, 7, "ReleaseWithdrawn")], MADE, ended(*history))
    again = promote("ba", "a", 6, 7, "entry 3")
    assert not is_linearizable([*begin, again], MADE, ended(*history, "promote ba"))


@pytest.fixture
def memory(tmp_path):
    with store_in_memory(tmp_path) as store:
        yield store.root


def play(folder: Path, histories: int, mutant: str = "none") -> dict:
    """In a small process of its own: forking pytest hundreds of times would cost more than the histories."""
    command = [sys.executable, ledger_races.__file__, str(folder / mutant), str(histories), "6", mutant]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.slow
def test_520_histories_of_processes_some_of_them_killed_are_linearizable(memory):
    played = play(memory, 520)
    assert played["histories"] == 520
    assert played["not_linearizable"] == []
    # Something was at stake in them: every operation came to every end it can come to.
    assert played["killed"] >= 30
    assert played["unanswered"] >= 20
    for outcome in (
        "promote PromotionConflict",
        "promote ReleaseWithdrawn",
        "promote entry",
        "promote killed",
        "read read",
        "rollback PromotionConflict",
        "rollback entry",
        "rollback killed",
    ):
        assert played["outcomes"].get(outcome, 0) >= 1, played["outcomes"]


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["unlocked", "unconditional", "forgetful"])
def test_a_ledger_without_its_lock_its_condition_or_its_eyes_is_found_out(memory, mutant):
    assert play(memory, 60, mutant)["not_linearizable"] != []
