"""The audit proves every promotion of a history, and names the first one that cannot be proven."""

import json
from datetime import datetime, timedelta

import pytest
from releases import make_release, reseal, store_in_memory

from lifecycle import __main__ as program
from lifecycle import provenance
from lifecycle.artifacts import GateDecision
from lifecycle.audit import aliases_file, audit
from lifecycle.ledger import Ledger


@pytest.fixture
def ledger(tmp_path):
    with store_in_memory(tmp_path) as store:
        yield Ledger(store)


@pytest.fixture
def history(ledger):
    """a, b over a, back to a, c over a."""
    a = make_release(ledger.store, "a")
    b = make_release(ledger.store, "b", against=a)
    c = make_release(ledger.store, "c", against=a)
    ledger.promote(a, expected=None, reason="the first")
    ledger.promote(b, expected=a.digest, reason="better")
    ledger.rollback(a, expected=b.digest, reason="it swears")
    ledger.promote(c, expected=a.digest, reason="better still")
    return a, b, c


def test_a_history_in_order_is_proven(ledger, history):
    found = audit(ledger.store)
    assert found.first_break is None
    assert [audited.entry.reason for audited in found.entries] == ["the first", "better", "it swears", "better still"]


def test_an_empty_history_holds_nothing_unproven(ledger):
    assert audit(ledger.store).first_break is None


@pytest.mark.parametrize("what", ["release", "checkpoint", "report", "decision"])
@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_the_first_entry_whose_release_candidate_report_or_decision_is_not_what_it_was_is_named(
    ledger, history, what, damage
):
    """Of b, which was live second, and of c, which came after it."""
    for release in history[1:]:
        artifact = ledger.store.find(getattr(release, "digest" if what == "release" else f"{what}_digest"))
        victim = artifact.path / ("manifest.json" if damage == "gone" or what != "release" else "model/README.md")
        if damage == "gone":
            victim.unlink()
        else:
            victim.write_bytes(victim.read_bytes().replace(b"made_up", b"forged!") + b"\n{")
    found = audit(ledger.store)
    assert [audited.fault is None for audited in found.entries] == [True, False, True, False]
    assert found.first_break.startswith("entry 1: DamagedArtifact")


def test_a_policy_that_was_edited_after_the_decision_is_named(ledger, history):
    decision = ledger.store.find(history[1].decision_digest)
    manifest = json.loads((decision.path / "manifest.json").read_text())
    manifest["config"]["name"] = "a laxer policy"
    (decision.path / "manifest.json").write_text(json.dumps(manifest))
    assert GateDecision.load(decision.path).digest == decision.digest, "a policy is no part of the decision's digest"
    assert audit(ledger.store).first_break.startswith("entry 1: expected policy")


def append(ledger, **changes):
    """What somebody appends who knows how the chain is made, and how the journal is."""
    last = ledger.entries()[-1]
    forged = last.model_copy(update={"seq": last.seq + 1, "previous_hash": last.hash, **changes}).sealed()
    ledger.history.append(forged)


def test_an_entry_that_no_decision_allows_is_named_although_the_chain_is_whole(ledger, history):
    a, b, c = history
    append(ledger, action="promote", release=b.digest, checkpoint=b.checkpoint_digest, replaced=c.digest)
    assert "entry 4: expected report" in audit(ledger.store).first_break
    proof = {name: getattr(ledger.entries()[1], name) for name in ("checkpoint", "report", "decision", "policy")}
    append(ledger, action="promote", release=b.digest, **proof, replaced=b.digest)
    fault = audit(ledger.store).entries[-1].fault
    assert fault is None, "b over b: the same checkpoint"
    assert a.digest != b.digest


def test_a_promotion_on_a_decision_against_something_else_is_named(ledger, history):
    _, b, c = history
    proof = {name: getattr(ledger.entries()[1], name) for name in ("checkpoint", "report", "decision", "policy")}
    append(ledger, action="promote", release=b.digest, **proof, replaced=c.digest)
    assert f"promoted over checkpoint {c.checkpoint_digest}, on a decision against" in audit(ledger.store).first_break


def test_a_promotion_without_the_approver_its_policy_asks_for_is_named(ledger, history):
    """What a program that goes around the ledger would write: the chain is whole, the policy is not kept."""
    d = make_release(ledger.store, "d", against=history[2], approval="required")
    proof = provenance.proven(ledger.store, d.path)
    with ledger.store.lock("ledger"):
        ledger._append(ledger.history.read_locked(), "promote", proof, "nobody was asked", None)
    assert audit(ledger.store).first_break == (
        "entry 4: promoted without an approver, although the policy of its decision asks for one"
    )


def test_a_blocked_decision_made_to_say_promote_breaks_what_stands_on_it(ledger, history):
    b = history[1]
    checkpoint, report, decision = (
        ledger.store.find(digest) for digest in (b.checkpoint_digest, b.report_digest, b.decision_digest)
    )
    reseal(decision, report, verdict="BLOCK")
    assert "entry 1: DamagedArtifact: release" in audit(ledger.store).first_break
    assert checkpoint.digest == b.checkpoint_digest


def test_an_edited_line_is_the_first_break_unless_something_before_it_is_broken(ledger, history):
    a, b, _ = history
    lines = ledger.file.read_text().splitlines(keepends=True)
    ledger.file.write_text("".join([*lines[:2], lines[2].replace("it swears", "it was me"), *lines[3:]]))
    found = audit(ledger.store)
    assert len(found.entries) == 2
    assert "ledger.jsonl:3: the hash chain is broken" in found.first_break
    (b.path / "manifest.json").unlink()
    assert audit(ledger.store).first_break.startswith("entry 1: DamagedArtifact: expected the files of release")
    assert a.path.exists()


def test_a_history_cut_at_its_end_is_named_after_all_that_is_left_was_proven(ledger, history):
    lines = ledger.file.read_text().splitlines(keepends=True)
    ledger.file.write_text("".join(lines[:3]))
    found = audit(ledger.store)
    assert [audited.fault for audited in found.entries] == [None, None, None]
    assert "Somebody cut history" in found.first_break
    assert len(history) == 3


def run(capsys, *arguments):
    code = program.main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_prints_the_proof_the_withdrawn_and_the_aliases_that_were_moved(
    ledger, history, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "200")
    aliases_file(ledger.store).parent.mkdir()
    aliases_file(ledger.store).write_text('{"at": "2026-11-23T10:00:00+00:00", "message": "champion was moved"}\n')
    code, out, _ = run(capsys, "audit", "--store", str(ledger.store.root))
    assert code == 0
    assert "proven: 4 entries, 3 releases" in out
    assert f"withdrawn: checkpoint {history[1].checkpoint_digest[:12]}, by entry 2: it swears" in out
    assert "champion was moved" in out
    code, out, _ = run(capsys, "audit", "--json", "--store", str(ledger.store.root))
    data = json.loads(out)
    assert (code, data["proven"], len(data["entries"])) == (0, True, 4)


def test_the_command_ends_with_1_and_the_first_break(ledger, history, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    (history[0].model_dir / "model.safetensors").write_bytes(b"other weights")
    code, out, _ = run(capsys, "audit", "--store", str(ledger.store.root))
    assert code == 1
    assert "first break: entry 0: DamagedArtifact" in out
    assert "model.safetensors" in out.replace("\n", "")


def test_the_command_says_what_was_live_at_a_moment_since_when_and_until_when(ledger, history, capsys):
    a, b, c = history
    entries, store = ledger.entries(), str(ledger.store.root)
    code, out, _ = run(capsys, "live", "--at", entries[1].at, "--json", "--store", store)
    data = json.loads(out)
    assert (code, data["live"]["release"], data["until"]) == (0, b.digest, entries[2].at)
    before = (datetime.fromisoformat(entries[0].at) - timedelta(seconds=1)).replace(tzinfo=None).isoformat()
    assert "nothing was live" in run(capsys, "live", "--at", before, "--store", store)[1], "a bare time is UTC"
    code, out, _ = run(capsys, "live", "--store", store)
    assert f"release {c.digest[:12]} was live" in out
    assert "until     now" in out
    assert str(c.path) in out
    assert a.digest != c.digest


@pytest.mark.parametrize(
    ("at", "says"), [("soon", "expected --at as ISO 8601"), ("2999-01-01", "a moment that is over")]
)
def test_a_moment_that_is_none_or_not_over_yet_is_refused(ledger, capsys, at, says):
    code, _, err = run(capsys, "live", "--at", at, "--store", str(ledger.store.root))
    assert code == 2
    assert says in err
