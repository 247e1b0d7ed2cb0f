"""What a majority preferred, as rows the comparisons stage reads; below the agreement asked for, nothing."""

import json

import pytest

from lifecycle.data.conversations import fault_of_comparison
from lifecycle.data.jsonl import load_rows, read_rows
from lifecycle.desk.export import export, majority
from lifecycle.desk.findings import first_looks
from lifecycle.errors import ContractError, InputError
from lifecycle.stages.comparisons import ComparisonsConfig, ComparisonSource, curate_comparisons


@pytest.fixture
def judged(make, annotator):
    """Two people on twelve pairs: both for `good`, but on the last one the second calls a tie."""
    desk = make(12, annotators=3, repeat_share=0)
    for name in ("annotator-1", "annotator-2"):
        somebody = annotator(desk, name)
        for place in range(12):
            somebody.vote("tie") if name == "annotator-2" and place == 11 else somebody.prefer("good")
    return desk


def test_pairs_are_rows_of_the_comparisons_stage_with_who_said_so(judged, tmp_path):
    out = tmp_path / "comparisons.jsonl"
    done = export(judged, out, minimum_agreement=None)
    rows, faults = read_rows(out, fault_of_comparison, max_bad_row_share=0)
    assert not faults
    assert done.pairs == len(rows) == 11
    for row in rows:
        assert row["chosen"][0]["content"].startswith("It is **")
        where = row["provenance"]
        assert where["votes"] == {"annotator-1": "chosen", "annotator-2": "chosen"}
        assert where["chosen"]["system"] == "good"
        assert "seed" in where["chosen"]
    (tie,) = load_rows(done.ties_file)
    assert sorted(tie["provenance"]["votes"]) == ["annotator-1", "annotator-2"]
    assert "tie" in tie["provenance"]["votes"].values()
    record = json.loads(done.provenance_file.read_bytes())
    assert (
        record["desk"]
        == rows[0]["provenance"]["desk"]
        == judged.digest(first_looks(judged.items, judged.votes.counted()))
    )
    assert record["votes_by_annotator"] == {"annotator-1": 12, "annotator-2": 12}


def test_an_export_becomes_an_artifact_whose_pairs_say_who_chose_and_how_far_people_agreed(
    judged, held_out, tmp_path, out_dir
):
    done = export(judged, tmp_path / "votes.jsonl", minimum_agreement=0.4)
    assert done.alpha > 0.4
    source = ComparisonSource(name="desk", path=tmp_path / "votes.jsonl", licence="ours")
    made = curate_comparisons(ComparisonsConfig(sources=(source,), heldout_share=0.3), held_out[0], out_dir=out_dir)
    rows = [row for side in ("train", "heldout") for row in load_rows(made.path / f"{side}.jsonl")]
    assert len(rows) == made.train_pairs + made.heldout_pairs == done.pairs
    for row in rows:
        where = row["provenance"]
        assert where["votes"] == {"annotator-1": "chosen", "annotator-2": "chosen"}
        assert (where["agreement"], where["minimum_agreement"]) == (done.alpha, 0.4)
        assert (where["chosen"]["system"], row["source"]) == ("good", "desk")
    assert "tie" not in str(rows), "a tie is no pair"


def test_too_little_agreement_writes_nothing(make, annotator, tmp_path):
    desk = make(12, repeat_share=0)
    for name, system in (("annotator-1", "good"), ("annotator-2", "bad")):
        somebody = annotator(desk, name)
        for _ in range(12):
            somebody.prefer(system)
    with pytest.raises(ContractError, match=r"at least 0\.40, found -0\.\d\d on 12 pairs"):
        export(desk, tmp_path / "out.jsonl", minimum_agreement=0.4)
    assert not list(tmp_path.glob("out*"))


def test_agreement_that_could_not_be_measured_is_no_agreement(make, annotator, tmp_path):
    desk = make(12)
    annotator(desk).prefer("good")
    with pytest.raises(ContractError, match="none that could be measured"):
        export(desk, tmp_path / "out.jsonl", minimum_agreement=0.0)
    assert export(desk, tmp_path / "out.jsonl", minimum_agreement=None).pairs == 1
    with pytest.raises(InputError, match="found none among 1"):
        export(desk, tmp_path / "few.jsonl", minimum_agreement=None, minimum_votes=2)


def test_a_majority_is_more_than_half():
    class Said:
        def __init__(self, preferred):
            self.preferred = preferred

    for said, winner in (([0, 0, 1], 0), ([0, 1], None), ([1], 1), ([None, None, 1], None), ([1, 1, 0, None], None)):
        assert majority([Said(preferred) for preferred in said]) == winner
