"""P4: what is live always has a passing decision for exactly its digest, and moves only as it was expected to."""

import multiprocessing
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from releases import make_release, reseal, store_in_memory

from lifecycle import ledger as ledger_module
from lifecycle.artifacts import Checkpoint, EvalReport, GateDecision, Release
from lifecycle.errors import (
    ApprovalMissing,
    DamagedArtifact,
    PromotionBlocked,
    PromotionConflict,
    ReleaseWithdrawn,
    StoreError,
)
from lifecycle.history import Entry, parse
from lifecycle.ledger import Ledger
from lifecycle.store import Store


@pytest.fixture
def ledger(tmp_path):
    with store_in_memory(tmp_path) as store:
        yield Ledger(store)


@pytest.fixture
def make(ledger):
    """A release of a checkpoint, and in the store all it stands on."""

    def make(name, **decided):
        return make_release(ledger.store, name, **decided)

    return make


def promote(ledger, release, over=None, **how):
    return ledger.promote(release, expected=over.digest if over else None, reason="test", **how)


@pytest.fixture
def three(ledger, make):
    """a, b, c: promoted one over the other; c is live."""
    a = make("a")
    b = make("b", against=a)
    c = make("c", against=b)
    promote(ledger, a)
    promote(ledger, b, over=a)
    promote(ledger, c, over=b)
    return a, b, c


def test_nothing_is_live_at_first(ledger):
    assert ledger.live() is None
    assert ledger.previous() is None
    assert ledger.opponent_of("a") is None
    assert ledger.live_at(datetime.now(UTC)) is None


def test_promotions_follow_each_other_and_name_all_they_stand_on(ledger, make):
    a = make("a")
    b = make("b", against=a)
    promote(ledger, a)
    entry = promote(ledger, b, over=a)
    assert (entry.seq, entry.release, entry.replaced, entry.action) == (1, b.digest, a.digest, "promote")
    assert (entry.checkpoint, entry.report) == (b.checkpoint_digest, b.report_digest)
    assert entry.decision == b.decision_digest
    assert len(entry.policy) == 64
    assert ledger.live() == entry
    assert [e.checkpoint for e in ledger.entries()] == [a.checkpoint_digest, b.checkpoint_digest]


def test_promoting_twice_changes_nothing(ledger, make):
    a = make("a")
    first = promote(ledger, a)
    assert promote(ledger, a) == first
    assert ledger.promote(a, expected="whatever", reason="again") == first
    assert len(ledger.entries()) == 1


def test_a_stale_expectation_is_a_conflict(ledger, make):
    a = make("a")
    promote(ledger, a)
    with pytest.raises(PromotionConflict, match="expected no release to be live, found"):
        promote(ledger, make("b"))
    assert ledger.live().release == a.digest


def test_a_decision_against_something_else_is_a_conflict(ledger, make):
    a = make("a")
    promote(ledger, a)
    for against in (None, make("x")):
        with pytest.raises(PromotionConflict, match=r"expected a decision against what is live, .* found one against"):
            promote(ledger, make("b", against=against), over=a)


def test_a_decision_against_what_was_lost_is_a_conflict(ledger, make):
    with pytest.raises(PromotionConflict, match="against what is live, no release, found one against"):
        promote(ledger, make("b", against=make("a")))


@pytest.mark.parametrize("verdict", ["BLOCK", "INCONCLUSIVE"])
def test_a_blocked_decision_cannot_promote(ledger, make, verdict):
    with pytest.raises(PromotionBlocked, match=f"expected a PROMOTE decision for checkpoint .*, found {verdict} for"):
        promote(ledger, make("a", verdict=verdict))
    assert ledger.live() is None


def parts(ledger, release):
    """Checkpoint, report and decision behind a release."""
    return [ledger.store.find(d) for d in (release.checkpoint_digest, release.report_digest, release.decision_digest)]


@pytest.mark.parametrize("part", [0, 1, 2], ids=["candidate", "report", "decision"])
@pytest.mark.parametrize("damage", ["gone", "changed", "added"])
def test_a_candidate_report_or_decision_that_changed_after_the_gate_is_refused(ledger, make, part, damage):
    a = make("a")
    folder = parts(ledger, a)[part].path
    if damage == "gone":
        (folder / "manifest.json").unlink()
    elif damage == "changed":
        text = (folder / "manifest.json").read_text()
        (folder / "manifest.json").write_text(
            text.replace('"max_seq_len": 8', '"max_seq_len": 9').replace("0.9", "1.0")
        )
    else:
        (folder / "more.json").write_text("{}")
    with pytest.raises(DamagedArtifact):
        promote(ledger, a)
    assert ledger.live() is None


def test_weights_that_changed_after_the_gate_are_refused_in_the_candidate_and_in_the_release(ledger, make):
    for folder in ("checkpoint", "release"):
        made = make(folder)
        inside = made.model_dir if folder == "release" else parts(ledger, made)[0].path
        weights = inside / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"!")
        with pytest.raises(DamagedArtifact, match=r"model\.safetensors"):
            promote(ledger, made)


def test_a_report_of_another_checkpoint_put_into_the_place_of_the_real_one_is_refused(ledger, make):
    a, b = make("a"), make("b", verdict="BLOCK")
    checkpoint, report, decision = parts(ledger, b)
    foreign = parts(ledger, a)[1]
    forged = reseal(decision, report, verdict="PROMOTE", report_digest=foreign.digest)
    release = reseal(b, checkpoint, forged, foreign, report_digest=foreign.digest, decision_digest=forged.digest)
    with pytest.raises(PromotionBlocked, match=r"expected EvalReport .* to be about checkpoint"):
        promote(ledger, release)


def test_a_decision_that_was_not_made_from_this_report_is_refused(ledger, make):
    a = make("a", verdict="BLOCK")
    checkpoint, report, decision = parts(ledger, a)
    forged = reseal(decision, checkpoint, verdict="PROMOTE")
    release = reseal(a, checkpoint, forged, report, decision_digest=forged.digest)
    with pytest.raises(PromotionBlocked, match=r"expected GateDecision .* to be made from EvalReport"):
        promote(ledger, release)


def test_a_release_with_other_weights_than_the_evaluated_ones_is_refused(ledger, make):
    a = make("a")
    (a.model_dir / "model.safetensors").write_bytes(b"better weights")
    release = reseal(a, *parts(ledger, a))
    with pytest.raises(
        PromotionBlocked, match=r"expected model/model\.safetensors .* to be the evaluated checkpoint's"
    ):
        promote(ledger, release)


def test_damage_elsewhere_in_the_store_is_in_nobodys_way(ledger, three, make):
    a, b, c = three
    for folder in (a.path, parts(ledger, a)[0].path):
        (folder / "manifest.json").write_text("{")
    assert ledger.rollback(b, expected=c.digest, reason="it must work in a bad hour").seq == 3


def test_an_equal_artifact_beside_a_damaged_one_will_do(ledger, make):
    """Code drift that changes no byte leaves two folders with one digest."""
    a = make("a")
    report = parts(ledger, a)[1]
    shutil.copytree(report.path, report.path.with_name("zzz"))
    (report.path / "more.txt").write_text("added")
    assert promote(ledger, a).report == a.report_digest


def test_rolling_back_and_again(ledger, three):
    _, b, c = three
    entry = ledger.rollback(b, expected=c.digest, reason="users complained")
    assert (entry.action, entry.release, entry.replaced) == ("rollback", b.digest, c.digest)
    assert ledger.rollback(b, expected=c.digest, reason="again") == entry
    assert len(ledger.entries()) == 4


def test_what_to_go_back_to_is_what_the_live_release_was_promoted_over_not_what_was_live_before(ledger, three):
    a, b, c = three
    assert ledger.previous().release == b.digest
    ledger.rollback(b, expected=c.digest, reason="users complained")
    assert ledger.previous().release == a.digest, "going back twice must not bring the bad one back"
    ledger.rollback(a, expected=b.digest, reason="this one too")
    assert ledger.previous() is None


def test_a_release_that_was_never_live_cannot_be_rolled_back_to(ledger, make):
    a = make("a")
    promote(ledger, a)
    with pytest.raises(PromotionBlocked, match="was never live"):
        ledger.rollback(make("b"), expected=a.digest, reason="")


def test_a_rollback_that_comes_too_late_is_a_conflict(ledger, three):
    a, b, _ = three
    with pytest.raises(PromotionConflict, match="somebody moved it meanwhile"):
        ledger.rollback(a, expected=b.digest, reason="")


@pytest.mark.parametrize("part", ["its weights", "its folder", "its decision", "its report", "its checkpoint"])
def test_a_rollback_to_files_that_are_gone_or_changed_is_refused_and_the_champion_stays(ledger, three, part):
    _, b, c = three
    checkpoint, report, decision = parts(ledger, b)
    victim = {
        "its weights": b.model_dir / "model.safetensors",
        "its folder": b.path / "manifest.json",
        "its decision": decision.path / "manifest.json",
        "its report": report.path / "manifest.json",
        "its checkpoint": checkpoint.path / "config.json",
    }[part]
    victim.unlink()
    with pytest.raises(DamagedArtifact):
        ledger.rollback(b, expected=c.digest, reason="users complained")
    assert ledger.live().release == c.digest


def test_a_rolled_back_release_returns_only_by_name(ledger, three):
    _, b, c = three
    ledger.rollback(b, expected=c.digest, reason="it swears at users")
    with pytest.raises(ReleaseWithdrawn, match=r"entry 3\): 'it swears at users'.*flows\.promote --release") as refused:
        promote(ledger, c, over=b)
    assert refused.value.exit_code == 3
    assert ledger.live().release == b.digest
    assert promote(ledger, c, over=b, by_name=True).seq == 4
    assert promote(ledger, c, over=b).seq == 4, "live again, it is as it was"
    assert ledger.withdrawn() == {}


def test_the_same_weights_in_another_release_are_withdrawn_too(ledger, three, make):
    _, b, c = three
    ledger.rollback(b, expected=c.digest, reason="it swears at users")
    with pytest.raises(ReleaseWithdrawn):
        promote(ledger, make("c", against=b, card="now in a friendly colour"), over=b)


def test_going_back_behind_two_releases_withdraws_both(ledger, three):
    a, b, c = three
    ledger.rollback(a, expected=c.digest, reason="all of them swear")
    assert set(ledger.withdrawn()) == {b.checkpoint_digest, c.checkpoint_digest}
    with pytest.raises(ReleaseWithdrawn):
        promote(ledger, b, over=a)
    promote(ledger, b, over=a, by_name=True)
    assert set(ledger.withdrawn()) == {c.checkpoint_digest}


def test_a_rollback_to_it_brings_a_withdrawn_release_back_too(ledger, three):
    _, b, c = three
    ledger.rollback(b, expected=c.digest, reason="it swears")
    ledger.rollback(c, expected=b.digest, reason="it was another one")
    assert set(ledger.withdrawn()) == {b.checkpoint_digest}, "b is what this rollback took away"


def test_where_the_policy_asks_for_approval_nothing_goes_live_without_an_approver(ledger, make):
    asks = make("a", approval="required")
    for how in ({}, {"approver": ""}, {"by_name": True}):
        with pytest.raises(ApprovalMissing, match="expected an approver for release"):
            promote(ledger, asks, **how)
    assert ledger.live() is None
    entry = promote(ledger, asks, by_name=True, approver="Ada")
    assert (entry.approver, entry.reason, ledger.live()) == ("Ada", "test", entry)
    assert promote(ledger, asks) == entry, "what is live already has nothing to ask"


def test_an_approver_is_in_the_chain_and_a_rollback_waits_for_none(ledger, make):
    a = make("a", approval="required")
    b = make("b", against=a, approval="required")
    promote(ledger, a, approver="Ada")
    promote(ledger, b, over=a, approver="Grace")
    assert ledger.rollback(a, expected=b.digest, reason="it swears").approver is None
    ledger.file.write_text(ledger.file.read_text().replace("Grace", "Hedy"))
    with pytest.raises(StoreError, match="hash chain is broken"):
        ledger.entries()


def test_an_entry_from_before_there_were_approvers_keeps_its_hash(ledger, make):
    entry = promote(ledger, make("a"))
    known = entry.model_dump(exclude={"hash", "approver"})
    old = Entry(**known).sealed()
    assert old.hash != entry.hash
    line = old.model_dump_json(exclude={"approver"}).encode() + b"\n"
    assert parse(line, ledger.file) == [old]


def test_the_opponent_is_what_is_live_or_what_the_candidate_was_promoted_over(ledger, make):
    a = make("a")
    b = make("b", against=a)
    promote(ledger, a)
    assert ledger.opponent_of(a.checkpoint_digest) is None  # the first release was compared with nothing
    assert ledger.opponent_of(b.checkpoint_digest).release == a.digest
    promote(ledger, b, over=a)
    assert ledger.opponent_of(b.checkpoint_digest).release == a.digest  # the same command again decides as it did
    assert ledger.opponent_of("c").release == b.digest
    ledger.rollback(a, expected=b.digest, reason="")
    assert ledger.opponent_of(b.checkpoint_digest).release == a.digest
    assert ledger.opponent_of(a.checkpoint_digest) is None


def test_a_second_release_of_a_checkpoint_is_not_compared_with_the_first(ledger, make):
    a = make("a")
    b, again = make("b", against=a), make("b", against=a, card="a better card")
    promote(ledger, a)
    promote(ledger, b, over=a)
    promote(ledger, again, over=b)
    assert ledger.opponent_of(b.checkpoint_digest).release == a.digest


def test_what_was_live_at_a_moment(ledger, three):
    entries = ledger.entries()
    moments = [datetime.fromisoformat(entry.at) for entry in entries]
    just_before = timedelta(microseconds=1)
    assert ledger.live_at(moments[0] - just_before) is None
    for entry, moment in zip(entries, moments, strict=True):
        assert ledger.live_at(moment) == entry
        assert ledger.live_at(moment - just_before) == (entries[entry.seq - 1] if entry.seq else None)
    assert ledger.live_at(moments[-1] + timedelta(days=9)) == entries[-1]


def test_time_in_the_ledger_does_not_run_backwards_when_the_clock_does(ledger, make, monkeypatch):
    class Backwards(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(1999, 1, 1, tzinfo=tz)

    a = make("a")
    first = promote(ledger, a)
    monkeypatch.setattr(ledger_module, "datetime", Backwards)
    assert promote(ledger, make("b", against=a), over=a).at == first.at
    assert ledger.live_at(datetime.now(UTC)).seq == 1


def race(root: Path, release: Path, start: float, outcomes: "multiprocessing.Queue[str]") -> None:
    made, ledger = Release.load(release), Ledger(Store(root))
    time.sleep(max(0.0, start - time.time()))
    try:
        outcomes.put(ledger.promote(made, expected=None, reason="race").release)
    except PromotionConflict:
        outcomes.put("conflict")


def test_of_four_processes_promoting_at_once_one_wins_and_the_others_conflict(ledger, make):
    context = multiprocessing.get_context("fork")
    outcomes, start = context.Queue(), time.time() + 0.3
    processes = [
        context.Process(target=race, args=(ledger.store.root, make(name).path, start, outcomes)) for name in "abcd"
    ]
    for process in processes:
        process.start()
    found = sorted(outcomes.get(timeout=20) for _ in processes)
    for process in processes:
        process.join(timeout=20)
    assert found == sorted([ledger.live().release, "conflict", "conflict", "conflict"])
    assert len(ledger.entries()) == 1


def test_what_a_release_stands_on_is_of_the_kind_it_says(ledger, make):
    a = make("a")
    checkpoint, report, decision = parts(ledger, a)
    assert [type(part) for part in (checkpoint, report, decision)] == [Checkpoint, EvalReport, GateDecision]
    release = reseal(a, checkpoint, decision, report, report_digest=decision.digest)
    with pytest.raises(DamagedArtifact, match="expected a EvalReport, found a GateDecision"):
        promote(ledger, release)
