"""Rows that do not fit, as a contract or a count says, and limits on time."""

from made_up_runs import look, manifest

REFUSED = "expected at most 1.0% of the rows to be left out, found 1 of 60 ({'longer_than_max_seq_len': 1})"


def test_rows_that_a_contract_refused_are_rows_that_do_not_fit():
    made = {"state": "FAILED", "message": REFUSED, "ended_in": "preference"}
    found = look("rows_that_did_not_fit", **made, manifests={"shards": manifest({"max_seq_len": 128})})
    assert (found.strength, found.seen, found.stage) == (1, "preference", "shards")
    assert found.knobs[0].settings == ("shards.max_seq_len=256",)


def test_rows_that_do_not_fit_are_seen_where_they_are_first_left_out():
    """Six of ten in SFT, nine of ten in preferences: the first explains what SFT did not learn."""
    manifests = {
        "demonstrations": manifest(train_rows=100),
        "sft": manifest(dropped={"longer_than_max_seq_len": 60}),
        "comparisons": manifest(train_pairs=100),
        "preference": manifest(dropped={"longer_than_max_seq_len": 90}),
    }
    assert look("rows_that_did_not_fit", manifests=manifests).seen == "sft"
    manifests["sft"] = manifest(dropped={"longer_than_max_seq_len": 1})
    assert look("rows_that_did_not_fit", manifests=manifests).seen == "preference"


def test_a_limit_on_time_is_no_lack_of_memory():
    made = {"state": "FAILED", "ended_in": "sft", "manifests": {}}
    assert "memory" not in str(look("how_it_ended", message="killed by SIGXCPU", **made).knobs)
    assert "more time" in look("how_it_ended", message="Slurm: timeout (TimeLimit)", **made).knobs[0].change
    assert "quarter of the rows" in look("how_it_ended", message="killed by SIGKILL", **made).knobs[0].change
