"""The ledger's file: what is torn never happened; what was edited, cut or added is refused; kill -9 changes nothing."""

import functools
import json

import killing
import pytest
from releases import make_release, store_in_memory

from lifecycle import provenance
from lifecycle.audit import audit
from lifecycle.errors import StoreError
from lifecycle.history import Entry, History
from lifecycle.ledger import Ledger
from lifecycle.store import Store


@pytest.fixture
def store(tmp_path):
    with store_in_memory(tmp_path) as store:
        yield store


@pytest.fixture
def ledger(store):
    """A ledger in which a, b and c went live one after the other."""
    ledger = Ledger(store)
    before = None
    for name in "abc":
        release = make_release(ledger.store, name, against=before)
        ledger.promote(release, expected=before.digest if before else None, reason=name)
        before = release
    return ledger


def edited(line: bytes, **changes) -> bytes:
    return json.dumps(json.loads(line) | changes).encode()


def without(line: bytes, name: str) -> bytes:
    return json.dumps({key: value for key, value in json.loads(line).items() if key != name}).encode()


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: [edited(lines[0], checkpoint="x"), *lines[1:]],
        lambda lines: [edited(lines[0], reason="of course"), *lines[1:]],
        lambda lines: [without(lines[0], "policy"), *lines[1:]],
        lambda lines: lines[1:],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: [*lines, lines[2]],
    ],
    ids=["another checkpoint", "another reason", "no policy", "first gone", "middle gone", "swapped", "repeated"],
)
def test_edited_history_is_refused(ledger, edit):
    lines = ledger.file.read_bytes().splitlines()
    ledger.file.write_bytes(b"".join(line + b"\n" for line in edit(lines)))
    with pytest.raises(StoreError, match="the hash chain is broken"):
        ledger.live()


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_history_cut_at_its_end_is_refused_although_its_chain_is_whole(ledger, kept):
    lines = ledger.file.read_bytes().splitlines(keepends=True)
    ledger.file.write_bytes(b"".join(lines[:kept]))
    with pytest.raises(StoreError, match=r"expected entry 2, .* which was confirmed, found .* Somebody cut history"):
        ledger.live()


def test_a_ledger_that_was_removed_is_not_an_empty_one(ledger):
    ledger.file.unlink()
    with pytest.raises(StoreError, match="Somebody cut history"):
        ledger.live()


def test_an_entry_written_past_the_ledger_is_refused_although_it_follows_in_the_chain(ledger):
    last = ledger.entries()[-1]
    forged = last.model_copy(update={"seq": 3, "previous_hash": last.hash, "reason": "of course"}).sealed()
    with ledger.file.open("ab") as file:
        file.write(forged.model_dump_json().encode() + b"\n")
    with pytest.raises(StoreError, match="which was never announced"):
        ledger.live()


def test_an_end_replaced_by_another_that_fits_is_refused(ledger):
    lines = ledger.file.read_bytes().splitlines(keepends=True)
    forged = ledger.entries()[-1].model_copy(update={"reason": "of course"}).sealed()
    ledger.file.write_bytes(b"".join(lines[:2]) + forged.model_dump_json().encode() + b"\n")
    with pytest.raises(StoreError, match="Somebody cut history"):
        ledger.live()


def test_a_line_that_is_no_entry_is_refused(ledger):
    ledger.file.write_bytes(b"hello\n")
    with pytest.raises(StoreError, match=r"ledger.jsonl:1: not a ledger entry"):
        ledger.live()


def test_a_ledger_or_a_journal_that_cannot_be_read_is_not_an_empty_one(ledger):
    for file, name in ((ledger.history.journal_file, "journal"), (ledger.file, "ledger")):
        file.unlink()
        file.mkdir()
        with pytest.raises(StoreError, match=f"expected a readable {name}"):
            ledger.live()
        file.rmdir()


def test_a_ledger_begun_before_there_was_a_journal_or_a_policy_is_read_and_goes_on(tmp_path):
    """The line was written by an earlier version of this program."""
    ledger = Ledger(Store(tmp_path))
    ledger.file.write_text(
        '{"seq":0,"action":"promote","release":"335d984724c8dc73e02669e32d90cbd37323c12d19a3129dafadf86edc8391fe"'
        ',"checkpoint":"7d8e8778d4415d09d1a102abda3cf21b7aa136ab4f38c4836e3f2aa631b69866","decision":"a3b74b0a67f'
        'e555c270a6d6767218ab501f4e661031a932c4d1c7f5109fb59e1","report":"e26a54b66a16ca123ea866f3d0cfb58dc91a642'
        '544fac428c8d4b26915665ac8","replaced":null,"reason":"gate: all 3 checks passed against the floors alone,'
        ' nothing was live","at":"2026-11-23T08:01:50+00:00","previous_hash":"00000000000000000000000000000000000'
        '00000000000000000000000000000","hash":"d400aa8fb73b2a654c12d4e14f291f6fc6ba5a9b02b79be48c50b74b079cc315"'
        "}\n"
    )
    assert ledger.live().checkpoint.startswith("7d8e8778d441")
    release = make_release(ledger.store, "next")
    entry = ledger.entries()[0]
    follows = Entry(
        **{**entry.model_dump(), "seq": 1, "policy": "p", "release": release.digest, "previous_hash": entry.hash}
    )
    ledger.history.append(follows.sealed())
    assert [e.seq for e in ledger.entries()] == [0, 1]


def test_a_full_disk_promotes_nothing_and_says_so(tmp_path, monkeypatch):
    def no_space(_):
        raise OSError(28, "No space left on device")

    ledger = Ledger(Store(tmp_path))
    release = make_release(ledger.store, "a")
    monkeypatch.setattr("lifecycle.history.os.fsync", no_space)
    with pytest.raises(StoreError, match=r"expected to append to the ledger .* No space left on device"):
        ledger.promote(release, expected=None, reason="test")
    monkeypatch.undo()
    # Whatever reached the disk, the same command ends in the same place.
    assert ledger.promote(release, expected=None, reason="test").seq == 0
    assert len(ledger.entries()) == 1


def test_after_any_part_of_a_line_it_never_happened_and_the_next_append_drops_it(ledger):
    whole = ledger.file.read_bytes()
    first_two = b"".join(whole.splitlines(keepends=True)[:2])
    last, before = ledger.entries()[-1], ledger.entries()[-2]
    for kept in (*range(0, len(whole) - len(first_two), 50), len(whole) - len(first_two) - 1):
        ledger.history._say("announced", last)  # what a writer leaves that is killed in its write
        ledger.file.write_bytes(whole[: len(first_two) + kept])
        assert ledger.live() == before
    ledger.history.append(last)
    assert ledger.file.read_bytes() == whole
    assert ledger.live() == last


def test_a_reader_beside_a_writer_that_drops_a_torn_line_sees_no_broken_history(ledger):
    """Half of what was read was torn, the other half is the new line: read again, under the lock."""
    torn, history = ledger.file.read_bytes() + b'{"seq": 3, "ac', ledger.history
    contents = [torn.replace(b'"ac', b'tion"}\n'), torn]

    class Spliced(History):
        def _content(self):
            return contents.pop(0)

    assert len(Spliced(history.file, history._lock).read()) == 3
    assert contents == []


def test_what_is_told_before_its_writer_confirmed_it_is_made_durable_first(ledger, monkeypatch):
    synced = []
    monkeypatch.setattr(History, "_make_durable", lambda self: synced.append(self.file))
    ledger.entries()
    assert synced == [], "confirmed means that it reached the disk"
    ledger.history._say("announced", ledger.entries()[-1])
    ledger.entries()
    assert synced == [ledger.file]


@pytest.mark.skipif(not killing.can_trace(), reason="this machine forbids ptrace")
@pytest.mark.parametrize("action", ["first promotion", "promotion", "rollback"])
def test_killed_before_any_system_call_it_happened_or_it_did_not_and_the_same_command_ends_it(
    store, monkeypatch, action
):
    """The child gets a real SIGKILL before its 1st, 2nd, 3rd ... system call, until one survives."""
    a = make_release(store, "a")
    b = make_release(store, "b", against=a)
    # The verification before the lock only reads: without it, every call that is left can matter.
    monkeypatch.setattr(provenance, "proven", functools.cache(provenance.proven))
    for release in (a, b):
        provenance.proven(store, release.path)

    def begin() -> Ledger:
        ledger = Ledger(store)
        for file in (ledger.file, ledger.history.journal_file):
            file.unlink(missing_ok=True)
        if action != "first promotion":
            ledger.promote(a, expected=None, reason="a")
        if action == "rollback":
            ledger.promote(b, expected=a.digest, reason="b")
        return ledger

    def act() -> Entry:
        if action == "rollback":
            return Ledger(store).rollback(a, expected=b.digest, reason="kill me")
        release, expected = (a, None) if action == "first promotion" else (b, a.digest)
        return Ledger(store).promote(release, expected=expected, reason="kill me")

    happened, number, killed = [], 0, True
    while killed:
        number += 1
        ledger = begin()
        before = ledger.entries()
        killed = killing.killed_before_call(number, act)
        after = ledger.entries()
        assert after[: len(before)] == before
        assert len(after) - len(before) in (0, 1)
        happened.append(len(after) - len(before))
        entry = act()  # the same command again
        assert ledger.entries() == [*before, entry]
        assert ledger.history.journal().state in ("confirmed", "announced")
        assert audit(store).first_break is None
    assert number > 30, "it makes more calls than that"
    assert happened == sorted(happened), "once it has happened, a later kill does not undo it"
    assert happened[0] == 0
    assert happened[-1] == 1
    assert {path.name for path in store.root.glob("*ledger*")} == {"ledger.jsonl", "ledger.journal.json"}
