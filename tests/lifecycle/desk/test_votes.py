"""Votes are added, never changed; each counts once, and undoing one is a row as well."""

import sqlite3
import threading

import pytest

from lifecycle.desk.votes import Refused, Turn, Votes


@pytest.fixture
def votes(tmp_path) -> Votes:
    return Votes(tmp_path / "votes.sqlite")


def shown(votes, item="i1", who="ann"):
    return votes.show(who, lambda database: Turn(item, 0))


def test_a_vote_sent_twice_is_one_vote(votes, number):
    seen, id = shown(votes), number()
    assert votes.cast(id, "ann", seen.number, "left", tags=["clear"], seconds=3.0)
    assert not votes.cast(id, "ann", seen.number, "left", tags=["clear"], seconds=9.0)
    assert [(vote.choice, vote.preferred, vote.tags, vote.seconds) for vote in votes.counted()] == [
        ("left", 0, ("clear",), 3.0)
    ]


def test_two_tabs_cannot_decide_on_one_comparison(votes, number):
    seen = shown(votes)
    votes.cast(number(), "ann", seen.number, "left")
    with pytest.raises(Refused, match="already"):
        votes.cast(number(), "ann", seen.number, "right")
    assert len(votes.counted()) == 1


def test_another_vote_under_a_used_number_is_refused(votes, number):
    seen, id = shown(votes), number()
    votes.cast(id, "ann", seen.number, "left")
    with pytest.raises(Refused, match="same number"):
        votes.cast(id, "ann", seen.number, "right")


def test_what_was_not_shown_to_somebody_is_not_theirs_to_decide(votes, number):
    seen = shown(votes, who="ann")
    for who, what in (("bob", seen.number), ("ann", seen.number + 1)):
        with pytest.raises(Refused, match="not shown"):
            votes.cast(number(), who, what, "left")
    assert votes.counted() == []


def test_an_undone_vote_stays_on_record_and_its_comparison_comes_back(votes, number):
    first = shown(votes, "i1")
    id, undo = number(), number()
    votes.cast(id, "ann", first.number, "left")
    second = shown(votes, "i2")
    assert votes.undo(undo, "ann", id)
    assert not votes.undo(undo, "ann", id), "the same request again"
    assert votes.counted() == []
    assert votes.rows() == 2
    assert shown(votes, "i3") == first, "before what was open meanwhile"
    votes.cast(number(), "ann", first.number, "tie")
    assert shown(votes, "i3") == second


def test_only_the_last_vote_can_be_undone_and_only_ones_own(votes, number):
    ids = []
    for item in ("i1", "i2"):
        ids.append(number())
        votes.cast(ids[-1], "ann", shown(votes, item).number, "left")
    for who, which in (("ann", ids[0]), ("bob", ids[1])):
        with pytest.raises(Refused, match="last vote"):
            votes.undo(number(), who, which)
    votes.undo(number(), "ann", ids[1])
    votes.undo(number(), "ann", ids[0])
    with pytest.raises(Refused, match="last vote"):
        votes.undo(number(), "ann", ids[0])


@pytest.mark.parametrize("change", ["UPDATE votes SET choice = 'right'", "DELETE FROM votes", "DELETE FROM shown"])
def test_the_database_itself_refuses_to_change_a_row(votes, number, change):
    votes.cast(number(), "ann", shown(votes).number, "left")
    with sqlite3.connect(votes.path) as other, pytest.raises(sqlite3.IntegrityError, match="only added"):
        other.execute(change)


def test_a_commit_is_on_disk_before_it_returns(votes):
    assert votes.read(lambda database: database.execute("PRAGMA synchronous").fetchone()) == (2,), "FULL"
    assert votes.read(lambda database: database.execute("PRAGMA journal_mode").fetchone()) == ("wal",)


def test_the_same_request_in_many_threads_at_once_counts_once(votes, number):
    seen, id, counted = shown(votes), number(), []
    threads = [
        threading.Thread(target=lambda: counted.append(votes.cast(id, "ann", seen.number, "tie"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counted) == [False] * 7 + [True]
    assert len(votes.counted()) == 1


def test_a_file_that_is_no_database_is_named(tmp_path):
    from lifecycle.errors import DamagedArtifact

    (tmp_path / "votes.sqlite").write_bytes(b"no database" * 500)
    with pytest.raises(DamagedArtifact, match=r"votes\.sqlite"):
        Votes(tmp_path / "votes.sqlite")
