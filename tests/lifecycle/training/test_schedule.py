"""Learning rates small enough to check by hand."""

import pytest

from lifecycle.training.schedule import learning_rate


def rates(schedule: str, steps: int = 12, warmup: int = 2, final: float = 0.0) -> list[float]:
    return [
        round(
            learning_rate(step, steps=steps, peak=1.0, warmup_steps=warmup, schedule=schedule, final_share=final),
            3,
        )
        for step in range(steps)
    ]


def test_linear_goes_up_in_the_warm_up_and_down_to_nothing():
    assert rates("linear") == [0.5, 1.0, 1.0, 0.889, 0.778, 0.667, 0.556, 0.444, 0.333, 0.222, 0.111, 0.0]


def test_cosine_passes_the_middle_at_half_height():
    assert rates("cosine", steps=7) == [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]


def test_wsd_is_flat_until_the_last_fifth():
    assert rates("wsd", steps=12, warmup=1) == [1.0] * 10 + [0.5, 0.0]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_every_schedule_ends_at_the_final_share_and_never_passes_the_peak(schedule):
    values = rates(schedule, steps=50, final=0.1)
    assert values[-1] == 0.1
    assert 0 < min(values) <= max(values) == 1.0


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_a_rate_is_a_function_of_its_step_in_whatever_order_steps_are_asked_for(schedule):
    settings = {"steps": 40, "peak": 3e-3, "warmup_steps": 5, "schedule": schedule, "final_share": 0.1}
    once = [learning_rate(step, **settings) for step in range(40)]
    assert [learning_rate(step, **settings) for step in reversed(range(40))] == once[::-1]


def test_a_run_of_one_step_trains_at_the_peak():
    assert rates("cosine", steps=1, warmup=0) == [1.0]
