"""Each rule of the watchdog on losses made by hand; what is healthy is left alone. Planted for real in workers/."""

import json
import math
import random

import pytest

from lifecycle.training.watchdog import RECENT_STEPS, Watchdog, WatchdogRules, after_overflow

STEPS, VOCABULARY, UNIGRAM = 600, 1024, 5.5


def watchdog(steps: int = STEPS, **rules: float) -> Watchdog:
    return Watchdog(
        WatchdogRules(**{"plateau_steps": 1, **rules}),
        vocab_size=VOCABULARY,
        unigram_nats=UNIGRAM,
        steps=steps,
        warmup_steps=20,
    )


def healthy(seed: int = 0, steps: int = STEPS) -> list[float]:
    """A loss that falls from ln V to 3, with 0.15 nats between batches."""
    draw = random.Random(seed)
    return [3 + (math.log(VOCABULARY) - 3) * math.exp(-step / 60) + draw.gauss(0, 0.15) for step in range(steps)]


def said(dog: Watchdog, losses: list[float]) -> list[tuple[int, str, str]]:
    found = ((step, dog.after_step(step, loss)) for step, loss in enumerate(losses))
    return [(step, one.rule, one.action) for step, one in found if one is not None]


@pytest.mark.parametrize("seed", range(20))
def test_a_healthy_run_is_left_alone(seed):
    assert said(watchdog(), healthy(seed)) == []


def test_one_bad_batch_is_named_and_does_not_become_usual():
    losses = healthy()
    losses[300] = losses[302] = 8.0
    assert said(watchdog(), losses) == [(300, "outlier_batch", "warn"), (302, "outlier_batch", "warn")]


def test_five_bad_batches_in_a_row_are_rolled_back_and_the_fourth_time_the_run_ends():
    losses = healthy()
    for start in (200, 250, 300, 350):
        losses[start : start + 5] = [8.0] * 5
    dog = watchdog()
    assert [row for row in said(dog, losses) if row[1] == "loss_spike"] == [
        (204, "loss_spike", "roll_back"),
        (254, "loss_spike", "roll_back"),
        (304, "loss_spike", "roll_back"),
        (354, "loss_spike", "abort"),
    ]


def test_huge_outliers_are_a_spike_and_not_worse_than_guessing():
    losses = healthy()
    losses[40:45] = [60.0] * 5
    assert [(rule, action) for _, rule, action in said(watchdog(), losses)] == [
        ("outlier_batch", "warn"),
        ("loss_spike", "roll_back"),
    ]


def test_steps_shortly_before_the_first_outlier_are_not_trusted():
    dog, losses = watchdog(), healthy()
    losses[200:205] = [8.0] * 5
    said(dog, losses[:205])
    assert dog.healthy_until(204) == 195  # step 200 was the first to show what one of the five before it did


def test_a_loss_of_zero_ends_the_run_at_once_and_says_what_was_saved():
    found = watchdog(steps=100).after_step(4, 0.0)
    assert (found.rule, found.action) == ("loss_is_zero", "abort")
    assert found.evidence.endswith("(step 5 of 100: 95% of the budget is saved)")


def test_the_loss_of_untrained_weights_is_not_worse_than_guessing():
    rules = {rule for _, rule, _ in said(watchdog(), [math.log(VOCABULARY) + 0.1] * STEPS)}
    assert rules == {"unigram_plateau"}


def test_worse_than_guessing_after_warm_up_ends_the_run():
    losses = [math.log(VOCABULARY) + 0.6] * STEPS
    assert said(watchdog(), losses)[0] == (RECENT_STEPS, "worse_than_uniform", "abort")


def test_a_loss_that_creeps_up_for_long_ends_the_run():
    up = [3.2 + 0.01 * step for step in range(300)]
    step, rule, action = said(watchdog(), healthy(steps=300) + up)[0]
    assert (rule, action) == ("divergence", "abort")
    assert step < 560


def test_a_plateau_at_token_frequencies_is_warned_of_once_and_ends_the_run_at_a_third():
    found = said(watchdog(), [UNIGRAM + 0.05] * STEPS)
    assert found[0] == (round(0.15 * STEPS) - 1, "unigram_plateau", "warn")
    assert found[1] == (round(STEPS / 3) - 1, "unigram_plateau", "abort")


def test_a_run_too_short_to_leave_the_plateau_is_not_accused_of_it():
    assert said(watchdog(steps=40, plateau_steps=200), [UNIGRAM - 0.04] * 40) == []


def test_a_plateau_is_not_seen_in_losses_of_the_warm_up():
    dog = Watchdog(WatchdogRules(), vocab_size=VOCABULARY, unigram_nats=UNIGRAM, steps=100, warmup_steps=60)
    assert said(dog, [6.5] * 60 + [5.0] * 40) == []


def test_a_throughput_that_collapses_for_a_minute_is_said_once():
    dog = watchdog()
    speeds = [1000.0] * 10 + [400.0] * 2 + [900.0] + [400.0] * 9
    found = [dog.after_log(speed, seconds=20.0) for speed in speeds]
    assert [n for n, one in enumerate(found) if one] == [15]
    assert found[15].evidence == "400 tokens a second for 60 s; the run's median is 1,000"


def test_a_source_whose_held_out_loss_rises_is_named():
    dog = watchdog()
    rising = [3.0, 2.5, 2.6, 2.7, 2.8, 2.9]
    found = [one for loss in rising for one in dog.after_validation({"sea": loss, "land": 2.0})]
    assert [(one.rule, one.action) for one in found] == [("validation_rises", "warn")]
    assert "on sea, three times above its best of 2.500" in found[0].evidence


@pytest.mark.parametrize("at", [37, 203, 301, 322])
def test_a_resumed_watchdog_says_what_one_that_was_never_interrupted_says(at):
    losses = healthy()
    losses[200], losses[300:302] = 8.0, [8.0, 8.1]
    losses[320:] = [7.5] * (STEPS - 320)
    whole = said(watchdog(), losses)
    first, second = watchdog(), watchdog()
    before = said(first, losses[:at])
    second.restore(json.loads(json.dumps(first.state())))
    found = ((step, second.after_step(step, losses[step])) for step in range(at, STEPS))
    assert before + [(step, one.rule, one.action) for step, one in found if one] == whole


@pytest.mark.parametrize(("loss_scale", "action"), [(32768.0, "warn"), (2.0, "warn"), (1.0, "abort")])
def test_a_step_that_fp16_skipped_is_named_and_ends_the_run_when_no_scale_is_left(loss_scale, action):
    rule, does, evidence = after_overflow(loss_scale)
    assert (rule, does) == ("fp16_overflow", action)
    assert evidence.endswith(f"the loss scale is now {loss_scale:g}")
