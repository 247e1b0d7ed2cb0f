"""MLflow's aliases say what the ledger says, and a hand that moved one is found out, named, and made undone."""

import pytest
from releases import make_release, store_in_memory

from lifecycle.audit import moved_aliases
from lifecycle.errors import PromotionConflict
from lifecycle.ledger import Ledger
from tasks import aliases
from tasks.aliases import CHAMPION, PREVIOUS
from tasks.outbox import Tracker


@pytest.fixture
def tracker(tmp_path, database, monkeypatch, request):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    with store_in_memory(tmp_path) as store:
        yield Tracker(store, request.node.name)


@pytest.fixture
def releases(tracker):
    """a, b, c, each decided against the one before and registered; nothing is live."""
    a = make_release(tracker.store, "a")
    b = make_release(tracker.store, "b", against=a)
    c = make_release(tracker.store, "c", against=b)
    for release in (a, b, c):
        tracker.register(release, "run-1")
    return a, b, c


def promote(tracker, release, over=None):
    Ledger(tracker.store).promote(release, expected=over.digest if over else None, reason="test")


def mirror(tracker):
    return tracker._mlflow().mirror_aliases(tracker.model_name)


def standing(tracker):
    """Which release each alias stands on."""
    client = tracker._mlflow().client
    (model,) = client.search_registered_models(f"name='{tracker.model_name}'")
    version = {a: client.get_model_version(tracker.model_name, v) for a, v in model.aliases.items()}
    return {alias: found.tags["lifecycle.release"] for alias, found in version.items()}


def test_aliases_follow_the_ledger_and_not_the_order_of_events(tracker, releases):
    a, b, _ = releases
    tracker.record("aliases")  # an old event, replayed late
    promote(tracker, a)
    promote(tracker, b, over=a)
    tracker._replay()
    assert standing(tracker) == {CHAMPION: b.digest, PREVIOUS: a.digest}
    assert tracker.moved == []


def test_a_version_says_who_approved_it(tracker, releases):
    a, b, _ = releases
    promote(tracker, a)
    mirror(tracker)
    Ledger(tracker.store).promote(b, expected=a.digest, reason="test", approver="Ada")
    mirror(tracker)
    client = tracker._mlflow().client
    tags = [client.get_model_version_by_alias(tracker.model_name, alias).tags for alias in (CHAMPION, PREVIOUS)]
    assert [found.get(aliases.APPROVER) for found in tags] == ["Ada", None]


def test_after_a_rollback_previous_is_what_to_go_back_to_next_and_never_what_one_went_back_from(tracker, releases):
    a, b, c = releases
    promote(tracker, a)
    promote(tracker, b, over=a)
    promote(tracker, c, over=b)
    mirror(tracker)
    Ledger(tracker.store).rollback(b, expected=c.digest, reason="it swears")
    assert mirror(tracker) == []
    assert standing(tracker) == {CHAMPION: b.digest, PREVIOUS: a.digest}
    Ledger(tracker.store).rollback(a, expected=b.digest, reason="this too")
    assert mirror(tracker) == []
    assert standing(tracker) == {CHAMPION: a.digest}, "there is nothing left to go back to"


def by_hand(tracker, alias, version):
    client = tracker._mlflow().client
    if version is None:
        client.delete_registered_model_alias(tracker.model_name, alias)
    else:
        client.set_registered_model_alias(tracker.model_name, alias, version)


@pytest.mark.parametrize(("alias", "version"), [(CHAMPION, "1"), (CHAMPION, "3"), (PREVIOUS, "3"), (CHAMPION, None)])
def test_an_alias_moved_by_hand_is_named_once_and_put_back(tracker, releases, alias, version):
    """To what was live before, to what never was, and to nothing."""
    a, b, c = releases
    promote(tracker, a)
    promote(tracker, b, over=a)
    mirror(tracker)
    by_hand(tracker, alias, version)
    (sentence,) = mirror(tracker)
    assert f"alias {alias!r}" in sentence
    assert "moved by hand" in sentence
    found = {"1": a, "3": c}.get(version)
    assert (f"found version {version} (release {found.digest[:12]})" if found else "found no version") in sentence
    assert standing(tracker) == {CHAMPION: b.digest, PREVIOUS: a.digest}
    assert mirror(tracker) == []
    assert [finding["message"] for finding in moved_aliases(tracker.store)] == [sentence]


def test_a_version_that_is_no_release_of_ours_is_named_as_such(tracker, releases):
    promote(tracker, releases[0])
    mirror(tracker)
    made = tracker._mlflow().client.create_model_version(tracker.model_name, "/elsewhere")
    by_hand(tracker, CHAMPION, made.version)
    (sentence,) = mirror(tracker)
    assert f"found version {made.version} (no release of ours)" in sentence


def test_a_champion_moved_by_hand_between_gate_and_promotion_is_a_conflict(tracker, releases):
    a, b, _ = releases
    promote(tracker, a)
    mirror(tracker)
    by_hand(tracker, CHAMPION, "3")
    with pytest.raises(PromotionConflict, match=r"alias 'champion' .* was moved by hand"):
        tracker.register(b, "run-2")
    assert Tracker(tracker.store, tracker.model_name).register(b, "run-2") == "2", "the same command again goes on"


@pytest.mark.parametrize("calls", range(5))
def test_a_mirror_that_was_interrupted_is_completed_and_takes_nobody_for_a_hand(tracker, releases, calls, monkeypatch):
    """It breaks off after so many calls that write."""
    a, b, _ = releases
    promote(tracker, a)
    mirror(tracker)
    promote(tracker, b, over=a)
    client, left = tracker._mlflow().client, [calls]

    def breaking(call):
        def wrapped(*arguments):
            if not left[0]:
                raise ConnectionError("pulled the plug")
            left[0] -= 1
            return call(*arguments)

        return wrapped

    with monkeypatch.context() as patch:
        for name in ("set_registered_model_tag", "set_registered_model_alias", "delete_registered_model_alias"):
            patch.setattr(client, name, breaking(getattr(client, name)))
        if calls < 4:
            with pytest.raises(ConnectionError):
                mirror(tracker)
        else:
            mirror(tracker)
            assert left == [0]
    assert mirror(tracker) == []
    assert standing(tracker) == {CHAMPION: b.digest, PREVIOUS: a.digest}
    assert moved_aliases(tracker.store) == []


def test_a_ledger_that_is_older_than_what_the_aliases_follow_moves_nothing_and_says_so(tracker, releases):
    a, b, _ = releases
    ledger = Ledger(tracker.store)
    promote(tracker, a)
    old = ledger.file.read_bytes(), ledger.history.journal_file.read_bytes()
    promote(tracker, b, over=a)
    mirror(tracker)
    ledger.file.write_bytes(old[0])
    ledger.history.journal_file.write_bytes(old[1])
    (sentence,) = mirror(tracker)
    assert "an older copy was put in its place" in sentence
    assert standing(tracker)[CHAMPION] == b.digest
    tracker._mlflow().client.delete_registered_model_tag(tracker.model_name, aliases.TAG)
    assert mirror(tracker) == []
    assert standing(tracker) == {CHAMPION: a.digest}


def test_another_store_that_uses_the_same_name_takes_over_without_blaming_anybody(tracker, releases, tmp_path):
    promote(tracker, releases[0])
    mirror(tracker)
    with store_in_memory(tmp_path) as store:
        other = Tracker(store, tracker.model_name)
        first = make_release(store, "other")
        other.register(first, "run-9")
        promote(other, first)
        assert mirror(other) == []
        assert standing(other) == {CHAMPION: first.digest}
