"""P4: what is live always has a passing decision for exactly its digest, and history cannot be rewritten unseen."""

import json
import multiprocessing
import time
from pathlib import Path

import pytest

from lifecycle.artifacts import Check, GateDecision, Release
from lifecycle.errors import PromotionBlocked, PromotionConflict, StoreError
from lifecycle.ledger import Ledger
from lifecycle.sealing import StageConfig
from lifecycle.store import Store


class Made(StageConfig):
    stage = "made"
    name: str


@pytest.fixture
def ledger(tmp_path):
    return Ledger(Store(tmp_path / "store"))


@pytest.fixture
def make(tmp_path):
    """A release of a checkpoint, and the decision it stands on."""

    def make(checkpoint, *, against=None, verdict="PROMOTE", card=""):
        folder = tmp_path / f"{checkpoint}-{against}-{verdict}-{card}"
        check = Check(metric="m", rule="floor", verdict="PASS", reason="", candidate=1.0)
        for part in ("decision", "release"):
            (folder / part).mkdir(parents=True)
        decision = GateDecision(
            path=folder / "decision",
            verdict=verdict,
            checkpoint_digest=checkpoint,
            report_digest=f"report of {checkpoint}",
            against=against,
            checks=[check],
        ).seal(Made(name=checkpoint))
        (folder / "release" / "card.md").write_text(card)
        release = Release(
            path=folder / "release",
            checkpoint_digest=checkpoint,
            decision_digest=decision.digest,
            report_digest=decision.report_digest,
            scores={},
        ).seal(Made(name=checkpoint))
        return release, decision

    return make


def promote(ledger, made, expected=None, reason="test"):
    return ledger.promote(*made, expected=expected, reason=reason)


def test_nothing_is_live_at_first(ledger):
    assert ledger.live() is None
    assert ledger.opponent_of("a") is None


def test_promotions_follow_each_other(ledger, make):
    a, b = make("a"), make("b", against="a")
    promote(ledger, a)
    entry = promote(ledger, b, expected=a[0].digest)
    assert (entry.seq, entry.release, entry.replaced, entry.action) == (1, b[0].digest, a[0].digest, "promote")
    assert ledger.live() == entry
    assert [e.checkpoint for e in ledger.entries()] == ["a", "b"]


def test_promoting_twice_changes_nothing(ledger, make):
    a = make("a")
    first = promote(ledger, a)
    assert promote(ledger, a) == first
    assert promote(ledger, a, expected="whatever") == first
    assert len(ledger.entries()) == 1


def test_a_stale_expectation_is_a_conflict(ledger, make):
    promote(ledger, make("a"))
    with pytest.raises(PromotionConflict, match="expected no release to be live, found"):
        promote(ledger, make("b"))
    assert ledger.live().checkpoint == "a"


def test_a_decision_against_something_else_is_a_conflict(ledger, make):
    a = make("a")
    promote(ledger, a)
    for against in (None, "x"):
        with pytest.raises(PromotionConflict, match="expected a decision against what is live, a, found one against"):
            promote(ledger, make("b", against=against), expected=a[0].digest)


def test_a_decision_against_what_was_lost_is_a_conflict(ledger, make):
    with pytest.raises(PromotionConflict, match="against what is live, no release, found one against a"):
        promote(ledger, make("b", against="a"))


@pytest.mark.parametrize("verdict", ["BLOCK", "INCONCLUSIVE"])
def test_a_blocked_decision_cannot_promote(ledger, make, verdict):
    with pytest.raises(PromotionBlocked, match=f"expected a PROMOTE decision for checkpoint a, found {verdict} for a"):
        promote(ledger, make("a", verdict=verdict))
    assert ledger.live() is None


def test_the_decision_for_another_checkpoint_cannot_promote(ledger, make):
    with pytest.raises(PromotionBlocked, match="found PROMOTE for b"):
        ledger.promote(make("a")[0], make("b")[1], expected=None, reason="")


def test_another_decision_for_the_same_checkpoint_cannot_promote(ledger, make):
    with pytest.raises(PromotionBlocked, match="to stand on decision"):
        ledger.promote(make("a")[0], make("a", against="x")[1], expected=None, reason="")


def test_a_torn_last_line_never_happened(ledger, make):
    a, b = make("a"), make("b", against="a")
    first = promote(ledger, a)
    whole = ledger.file.read_bytes()
    promote(ledger, b, expected=a[0].digest)
    second = ledger.file.read_bytes()[len(whole) :]
    for kept in (1, len(second) // 2, len(second) - 1):  # killed after so many bytes of the second line
        ledger.file.write_bytes(whole + second[:kept])
        assert ledger.live() == first
    assert promote(ledger, b, expected=a[0].digest).seq == 1
    assert len(ledger.entries()) == 2


def edited(line: bytes, **changes) -> bytes:
    return json.dumps(json.loads(line) | changes).encode()


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: [edited(lines[0], checkpoint="x"), *lines[1:]],
        lambda lines: [edited(lines[0], reason="of course"), *lines[1:]],
        lambda lines: lines[1:],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: [*lines, lines[2]],
    ],
    ids=["another checkpoint", "another reason", "first gone", "middle gone", "swapped", "repeated"],
)
def test_edited_history_is_refused(ledger, make, edit):
    a, b, c = make("a"), make("b", against="a"), make("c", against="b")
    promote(ledger, a)
    promote(ledger, b, expected=a[0].digest)
    promote(ledger, c, expected=b[0].digest)
    lines = ledger.file.read_bytes().splitlines()
    ledger.file.write_bytes(b"".join(line + b"\n" for line in edit(lines)))
    with pytest.raises(StoreError, match="the hash chain is broken"):
        ledger.live()


def test_a_line_that_is_no_entry_is_refused(ledger):
    ledger.file.write_bytes(b"hello\n")
    with pytest.raises(StoreError, match=r"ledger.jsonl:1: not a ledger entry"):
        ledger.live()


def test_a_ledger_that_cannot_be_read_is_not_an_empty_one(ledger):
    ledger.file.mkdir()
    with pytest.raises(StoreError, match="expected a readable ledger"):
        ledger.live()


def test_a_full_disk_promotes_nothing_and_says_so(ledger, make, monkeypatch):
    def no_space(_):
        raise OSError(28, "No space left on device")

    a = make("a")
    monkeypatch.setattr("lifecycle.ledger.os.fsync", no_space)
    with pytest.raises(StoreError, match=r"expected to append to the ledger .* No space left on device"):
        promote(ledger, a)
    monkeypatch.undo()
    assert promote(ledger, a).seq == 0  # whatever reached the disk, the same command ends in the same place
    assert len(ledger.entries()) == 1


def test_rolling_back_and_again(ledger, make):
    a, b = make("a"), make("b", against="a")
    promote(ledger, a)
    promote(ledger, b, expected=a[0].digest)
    entry = ledger.rollback(a[0], expected=b[0].digest, reason="users complained")
    assert (entry.action, entry.checkpoint, entry.replaced) == ("rollback", "a", b[0].digest)
    assert ledger.rollback(a[0], expected=b[0].digest, reason="again") == entry
    assert len(ledger.entries()) == 3


def test_a_release_that_was_never_live_cannot_be_rolled_back_to(ledger, make):
    a = make("a")
    promote(ledger, a)
    with pytest.raises(PromotionBlocked, match="was never live"):
        ledger.rollback(make("b")[0], expected=a[0].digest, reason="")


def test_a_rollback_that_comes_too_late_is_a_conflict(ledger, make):
    a, b, c = make("a"), make("b", against="a"), make("c", against="b")
    promote(ledger, a)
    promote(ledger, b, expected=a[0].digest)
    promote(ledger, c, expected=b[0].digest)
    with pytest.raises(PromotionConflict):
        ledger.rollback(a[0], expected=b[0].digest, reason="")


def test_the_opponent_is_what_is_live_or_what_the_candidate_was_promoted_over(ledger, make):
    a, b = make("a"), make("b", against="a")
    promote(ledger, a)
    assert ledger.opponent_of("a") is None  # the first release was compared with nothing
    assert ledger.opponent_of("b").checkpoint == "a"
    promote(ledger, b, expected=a[0].digest)
    assert ledger.opponent_of("b").checkpoint == "a"  # the same command again decides as it did
    assert ledger.opponent_of("c").checkpoint == "b"
    ledger.rollback(a[0], expected=b[0].digest, reason="")
    assert ledger.opponent_of("b").checkpoint == "a"
    assert ledger.opponent_of("a") is None


def test_a_second_release_of_a_checkpoint_is_not_compared_with_the_first(ledger, make):
    a, b, again = make("a"), make("b", against="a"), make("b", against="a", card="a better card")
    promote(ledger, a)
    promote(ledger, b, expected=a[0].digest)
    promote(ledger, again, expected=b[0].digest)
    assert ledger.opponent_of("b").checkpoint == "a"


def race(root: Path, release: Path, decision: Path, start: float, outcomes: "multiprocessing.Queue[str]") -> None:
    made = Release.load(release), GateDecision.load(decision)
    ledger = Ledger(Store(root))
    time.sleep(max(0.0, start - time.time()))
    try:
        outcomes.put(ledger.promote(*made, expected=None, reason="race").checkpoint)
    except PromotionConflict:
        outcomes.put("conflict")


def test_of_four_processes_promoting_at_once_one_wins_and_the_others_conflict(ledger, make):
    context = multiprocessing.get_context("fork")
    outcomes, start = context.Queue(), time.time() + 0.3
    contenders = [make("a"), make("b"), make("c"), make("d")]
    processes = [
        context.Process(target=race, args=(ledger.store.root, release.path, decision.path, start, outcomes))
        for release, decision in contenders
    ]
    for process in processes:
        process.start()
    found = sorted(outcomes.get(timeout=20) for _ in processes)
    for process in processes:
        process.join(timeout=20)
    winner = ledger.live().checkpoint
    assert found == sorted([winner, "conflict", "conflict", "conflict"])
    assert len(ledger.entries()) == 1
