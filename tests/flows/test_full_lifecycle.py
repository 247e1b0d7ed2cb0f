"""The chain on stages that take no time: reuse, the gate's word, failures, and what is on record afterwards."""

import contextlib
import sqlite3

import pytest

from lifecycle.ledger import Ledger
from lifecycle.runs import all_runs
from lifecycle.store import Store

# Together 20-30 s on an idle machine, of which 12 s are Prefect's and MLflow's new databases.
pytestmark = pytest.mark.slow

STAGES = ("suites", "corpus", "tokenizer", "shards", "pretrain", "demonstrations", "sft", "comparisons", "preference")
GATED = (*STAGES, "evaluate", "gate", "release")


def live(house):
    entry = Ledger(Store(house.store)).live()
    return entry and entry.release


def last(house):
    return next(all_runs(Store(house.store)))


def test_a_first_run_releases_and_its_last_screen_says_what_came_out_and_where_to_look(champion, released):
    _, ended = released
    assert ended.code == 0, ended.text
    assert [record.stage for record in last(champion).stages] == list(GATED)
    assert last(champion).state == "RELEASED"
    for said in ("[5/12] pretrain", "RELEASED in", "gate: PROMOTE", "live: release", "python -m lifecycle show"):
        assert said in ended.text


def test_the_evaluation_becomes_a_page_the_last_screen_names_and_a_table_in_the_ui(released):
    store, ended = released
    run = next(all_runs(Store(store)))
    page = run.evaluation_page
    assert page.as_uri() in ended.text
    assert run.page.as_uri() in ended.text
    assert "<h1>Released</h1>" in run.page.read_text()
    assert "1 of 1 rules is shown to hold" in page.read_text()
    with contextlib.closing(sqlite3.connect(store / "prefect" / "prefect.db")) as database:
        shown = database.execute("select data from artifact where key = 'evaluation-report'").fetchall()
    assert sum(str(page) in data for (data,) in shown) == 1, "other houses share this server"


def test_the_data_becomes_a_card_the_last_screen_names_and_a_page_in_the_ui(released):
    store, ended = released
    card = next(all_runs(Store(store))).data_card
    assert card.as_uri() in ended.text
    assert "9 documents" in card.read_text()
    assert "2.00 bytes a token" in card.read_text(), "drawn again when the tokenizer was there"
    with contextlib.closing(sqlite3.connect(store / "prefect" / "prefect.db")) as database:
        shown = database.execute("select data from artifact where key = 'data-card'").fetchall()
    assert any(card.parent.name in data for (data,) in shown)


def test_the_same_command_again_reuses_every_stage_and_changes_nothing(champion):
    before = live(champion)
    second = champion("full_lifecycle")
    assert second.code == 0, second.text
    assert all(record.reused for record in last(champion).stages)
    assert {stage: champion.times_run(stage) for stage in GATED} == dict.fromkeys(GATED, 1)
    assert live(champion) == before
    assert len(Ledger(Store(champion.store)).entries()) == 1


def test_a_changed_setting_reruns_its_stage_and_what_lies_below_and_nothing_else(champion):
    first = live(champion)
    assert champion("full_lifecycle", "--set", "preference.quality=0.8").code == 0
    made = [record.stage for record in last(champion).stages if not record.reused]
    assert made == ["preference", "evaluate", "gate", "release"]
    # And with a second champion live: back, forth again, and not to what was never compared with it.
    second = live(champion)
    assert champion("rollback", "--release", "previous", "--reason", "users complain").code == 0
    assert live(champion) == first
    assert champion("promote", "--release", second[:8], "--reason", "they were wrong").code == 0
    assert live(champion) == second
    refused = champion("promote", "--release", first[:8], "--reason", "it was gated when nothing was live")
    assert refused.code == 1
    assert "PromotionConflict" in refused.text
    assert live(champion) == second
    again = champion("full_lifecycle", "--set", "preference.quality=0.8")
    assert again.code == 0, "the live recipe, run again, is compared with what it was promoted over"
    assert champion.times_run("gate") == 2


def test_a_worse_candidate_ends_blocked_with_the_reasons_and_the_champion_does_not_move(champion):
    before = live(champion)
    blocked = champion("full_lifecycle", "--set", "preference.quality=0.6")
    assert blocked.code == 3
    assert live(champion) == before
    assert last(champion).state == "BLOCKED"
    for reason in ("gate: BLOCK", "contract.exact", "candidate 0.6000, live 0.7000", "[-0.1100, -0.0900]", "item-7"):
        assert reason in blocked.text


def test_a_gate_that_cannot_tell_ends_inconclusive(champion):
    before = live(champion)
    ended = champion("full_lifecycle", "--set", "gate.inconclusive=true")
    assert (ended.code, last(champion).state, live(champion)) == (3, "INCONCLUSIVE", before)


def test_a_new_way_to_measure_measures_the_live_release_again(champion):
    ended = champion("full_lifecycle", "--set", "preference.quality=0.8", "--set", "evaluate.quality=0.1")
    assert ended.code == 0
    reused = {record.stage: record.reused for record in last(champion).stages}
    assert reused["evaluate_live"] is False


def test_an_unknown_release_is_refused_and_the_known_ones_are_named(champion):
    unknown = champion("rollback", "--release", "ffffffff", "--reason", "no such release")
    assert unknown.code == 2
    assert live(champion)[:12] in unknown.text


def test_without_the_tracker_everything_is_made_and_nothing_is_promoted_until_it_is_back(house):
    nowhere = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    down = house("full_lifecycle", **nowhere)
    assert down.code == 1
    assert "TrackingUnavailable" in down.text
    assert "events wait for MLflow" in down.text
    assert live(house) is None
    assert [record.stage for record in last(house).stages] == list(GATED)
    back = house("full_lifecycle")
    assert back.code == 0, back.text
    assert all(record.reused for record in last(house).stages)
    assert live(house) is not None
    assert list((house.store / "tracking" / "outbox").iterdir()) == []


def test_a_contract_error_is_one_sentence_and_is_not_tried_again(house):
    ended = house("full_lifecycle", "--set", "sft.fail=contract")
    assert ended.code == 1
    assert "ContractError: expected one thing" in ended.text
    assert "Traceback" not in ended.text
    assert house.times_run("sft") == 1
    assert last(house).state == "FAILED"
    assert [record.stage for record in last(house).stages] == list(STAGES[:6])


def test_a_mistake_in_the_code_shows_where(house):
    ended = house("full_lifecycle", "--set", "corpus.fail=bug")
    assert ended.code == 1
    assert "Traceback" in ended.text
    assert "ZeroDivisionError" in ended.text


@pytest.mark.parametrize(("flow", "stages"), [("prepare_data", 4), ("train_base", 5), ("post_train", 9)])
def test_a_shorter_flow_stops_earlier_and_reuses_what_the_chain_made(champion, flow, stages):
    assert champion(flow).code == 0
    assert [record.stage for record in last(champion).stages] == list(STAGES[:stages])
    assert all(record.reused for record in last(champion).stages)
    assert last(champion).state == "COMPLETED"


def test_evaluate_release_alone_ends_as_the_chain_does(champion):
    assert champion("evaluate_release").code == 0
    assert last(champion).state == "RELEASED"


def test_a_worker_that_dies_without_a_word_is_tried_once_more(house):
    ended = house("train_base", "--set", "pretrain.fail=worker")
    assert ended.code == 0, ended.text
    assert house.times_run("pretrain") == 2


ADOPTED = ["suites", "base", "demonstrations", "sft", "evaluate", "evaluate_base", "gate"]


def test_a_recipe_that_adopts_its_base_runs_the_stages_it_has_and_is_gated_against_that_base(warm_house):
    house = warm_house
    worse = house("full_lifecycle", "--set", "sft.quality=0.55", recipe="adopting")
    assert worse.code == 3, worse.text
    assert [record.stage for record in last(house).stages] == ADOPTED
    for said in ("[2/7] base", "candidate 0.5500, live 0.6000", "against the adopted base"):
        assert said in worse.text
    better = house("full_lifecycle", recipe="adopting")
    assert better.code == 0, better.text
    assert [record.stage for record in last(house).stages] == [*ADOPTED, "release"]
    assert live(house) is not None
    again = house("full_lifecycle", recipe="adopting")
    assert again.code == 0, again.text
    assert all(record.reused for record in last(house).stages), "compared again with the base it was promoted over"
    shorter = house("train_base", recipe="adopting")
    assert (shorter.code, [record.stage for record in last(house).stages]) == (0, ["suites", "base"])
    left_out = house("full_lifecycle", "--set", "corpus.quality=1", recipe="adopting")
    assert (left_out.code, "this recipe leaves the stage out" in left_out.text) == (2, True)
    unknown = house("full_lifecycle", "--rebuild", "pretrain", recipe="adopting")
    assert (unknown.code, "Stages: base, demonstrations" in unknown.text) == (2, True)
