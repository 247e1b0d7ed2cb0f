"""Promote, roll back and ablate from the command line: what a person in a bad hour gets, and what he is kept from."""

import json

import pytest

from lifecycle import __main__ as program
from lifecycle.ledger import Ledger
from lifecycle.runs import all_runs
from lifecycle.store import Store

pytestmark = pytest.mark.slow  # 10 s on an idle machine, after Prefect has started

BETTER = ("--set", "preference.quality=0.8")


def live(house):
    return Ledger(Store(house.store)).live()


def test_what_was_rolled_back_returns_by_name_and_not_by_running_its_recipe_again(champion):
    first = live(champion).release
    assert champion("full_lifecycle", *BETTER).code == 0
    bad = live(champion).release
    gone_back = champion("rollback", "--release", "previous", "--expected", bad[:12], "--reason", "it swears")
    assert gone_back.code == 0, gone_back.text
    again = champion("full_lifecycle", *BETTER)
    assert again.code == 3
    assert "ReleaseWithdrawn" in again.text
    assert "'it swears'" in again.text
    assert live(champion).release == first
    assert next(all_runs(Store(champion.store))).state == "BLOCKED"

    # A second person goes back in the same hour, and a third sees something else live.
    twice = champion("rollback", "--release", "previous", "--reason", "it swears, I say")
    assert twice.code == 2
    assert "live by a rollback from" in twice.text
    late = champion("rollback", "--release", first[:12], "--expected", bad[:12], "--reason", "it still swears")
    assert late.code == 1
    assert "PromotionConflict" in late.text
    assert live(champion).release == first

    asked_for = champion("promote", "--release", bad[:12], "--expected", first[:12], "--reason", "it was the filter")
    assert asked_for.code == 0, asked_for.text
    assert live(champion).release == bad
    assert program.main(["audit", "--store", str(champion.store)]) == 0


def test_a_rollback_to_a_release_whose_files_are_gone_is_refused_and_named(champion):
    first = live(champion)
    assert champion("full_lifecycle", *BETTER).code == 0
    second = live(champion).release
    for manifest in champion.store.glob("artifacts/release/*/manifest.json"):
        if first.release in manifest.read_text():
            manifest.unlink()
    refused = champion("rollback", "--release", "previous", "--reason", "it swears")
    assert refused.code == 1
    assert f"expected the files of release {first.release[:12]}" in refused.text
    assert live(champion).release == second


def test_ablate_finds_nothing_between_two_runs_that_do_not_differ(champion):
    assert champion("full_lifecycle").code == 0
    good, bad = (run.name for run in all_runs(Store(champion.store)))
    nobody = champion("ablate", "--good", good, "--bad", "nobody")
    assert nobody.code == 2
    assert "expected one run 'nobody'" in nobody.text
    ended = champion("ablate", "--good", good, "--bad", bad)
    assert ended.code == 0, ended.text
    run = next(all_runs(Store(champion.store)))
    assert run.record.message.startswith("no stage differs by itself")
    assert json.loads((run.folder / "ablation.json").read_text())["effects"] == []
