"""What the fault bench publishes, on a handful of cases that were made up."""

from benchmarks import published
from benchmarks.faults import FAULTS


def row(fault, problem, first, *, half="tuning", seed=0, probability=0.95, second="healthy", stage="sft"):
    known = {"fault": fault, "problem": problem, "first": first, "second": second, "half": half, "seed": seed}
    known |= {"probability": probability, "stage": stage, "stages": ("sft",), "state": "BLOCKED"}
    return {**known, "scores": {"contract.greedy_correct": 0.25}, "seconds": 0.5}


ROWS = [
    row("short SFT", "behaviour", "behaviour"),
    row("low SFT rate", "behaviour", "protocol", second="behaviour", probability=0.55),
    row("wrong values", "behaviour", "behaviour", half="held out", stage="pretrain"),
    row("as shipped", "healthy", "healthy"),
    row("half the text", "healthy", "preference", half="held out", probability=0.6),
]


def test_shares_are_of_each_half_and_what_was_not_run_is_unmeasured():
    found = published.shares(ROWS)
    assert found["tuning, first"].startswith("1/2 = 50.0% [1.3%, 98.7%]"), "Clopper and Pearson, by their table"
    assert found["tuning, first two"].startswith("2/2")
    assert found["held out, stage"].startswith("0/1")
    assert found["held out, healthy accused"].startswith("1/1")
    assert found["new, first"] == "UNMEASURED: none run"


def test_confusion_and_calibration_count_every_case_once():
    told = published.confusion(ROWS)
    assert (told["behaviour"]["protocol"], told["healthy"]["preference"]) == (1, 1)
    assert sum(sum(named.values()) for named in told.values()) == len(ROWS)
    bins = published.calibration(ROWS)
    assert [(one["from"], one["right"].split(" ")[0]) for one in bins] == [(0.5, "0/2"), (0.9, "3/3")]


def test_what_was_planned_and_not_run_is_listed():
    missing = published.unmeasured(ROWS, (0, 1))
    assert "behaviour: short SFT" not in missing["0"]
    assert "behaviour: few demonstrations" in missing["0"]
    assert len(missing["1"]) == len(FAULTS)
    data = {"cases": ROWS, "shares": {}, "confusion": published.confusion(ROWS), "calibration": [], "seconds": {}}
    page = published.markdown({**data, "unmeasured": missing})
    assert "seed 1: all of it" in page
    assert "What the first change brought back:\n\n- all: UNMEASURED: not run" in page


def test_what_a_program_mended_and_what_a_hand_mended_are_counted_apart():
    """Of .5 and .4 lost the settings bring back .5 and 0; the hand brings more than was there, which counts as all."""
    mended = [(False, 0.4, 0.9), (False, 0.5, 0.5), (True, 0.5, 0.95)]
    rows = [{"by_hand": hand, "healthy": 0.9, "faulty": bad, "mended": good} for hand, bad, good in mended]
    assert list(published.brought_back(rows).values()) == [
        "55.6% of what 2 faults cost",
        "100.0% of what 1 faults cost",
    ]


def test_every_problem_has_six_faults_and_half_of_them_were_not_tuned_on():
    problems = {fault.problem for fault in FAULTS}
    assert len(problems) == 7
    for problem in problems:
        mine = [fault for fault in FAULTS if fault.problem == problem]
        assert len(mine) >= 6
        assert sum(fault.half != "tuning" for fault in mine) >= 3, problem
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
