"""A canary is held to its recipe's numbers while it runs, and no other run is."""

import pytest

pytestmark = pytest.mark.slow  # 4 s on an idle machine, after Prefect has started


def test_a_canary_stops_red_at_the_first_number_its_recipe_does_not_expect(warm_house):
    expects = "[" + ",".join(
        f'{{"stage": "{stage}", "number": "{number}", "at_least": 9, "at_most": {at_most}}}'
        for stage, number, at_most in (("corpus", "train_documents", 9), ("demonstrations", "train_rows", 9))
    ) + "]"  # fmt: skip
    red = warm_house("full_lifecycle", "--canary", "--set", f"expected={expects}")
    assert red.code == 1
    assert "CanaryRed: canary red: demonstrations train_rows: expected 9 to 9, found 10." in red.text
    assert warm_house.times_run("sft") == 0, "nothing was trained on it"
    unasked = warm_house("full_lifecycle", "--set", f"expected={expects}")
    assert unasked.code == 0, unasked.text

    without = warm_house("full_lifecycle", "--canary")
    assert without.code == 2
    assert "found none in recipe" in without.text
