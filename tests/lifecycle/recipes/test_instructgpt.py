"""The recipe `instructgpt`: what it shares with tiny, and which combinations of method and judge a recipe may have."""

import pytest

from lifecycle.errors import ConfigError
from lifecycle.recipes import LifecycleConfig, load
from lifecycle.recipes.tiny import tiny


def test_it_is_tiny_up_to_the_sft_model_and_its_gate_asks_for_drift_besides():
    ours, small = load("instructgpt"), tiny()
    for stage in (
        "suites",
        "corpus",
        "tokenizer",
        "shards",
        "pretrain",
        "demonstrations",
        "sft",
        "comparisons",
    ):
        assert getattr(ours, stage) == getattr(small, stage)
    beside = ours.gate.rules[len(small.gate.rules) :]
    assert ours.gate.rules == (*small.gate.rules, *beside)
    assert {rule.metric for rule in beside} == {"drift.kl", "drift.preferred"}
    assert ours.stages[-5:] == ("reward", "preference", "evaluate", "gate", "release")


def test_another_online_method_is_one_setting_away():
    assert load("instructgpt", ["preference.method=grpo"]).preference.method == "grpo"


def test_rewards_of_the_contract_need_no_reward_model():
    """The recipe of docs/preference.md."""
    config = load("instructgpt")
    learn = config.preference.model_dump() | {"method": "rloo", "reward_source": "contract", "kl_coefficient": 0.05}
    made = LifecycleConfig(**{**dict(config), "name": "rloo", "reward": None, "preference": learn})
    assert made.stages == tuple(stage for stage in config.stages if stage != "reward")
    assert made.preference.drift == config.preference.drift


@pytest.mark.parametrize("recipe", ["instructgpt", "tiny"])
def test_a_reward_model_stands_exactly_where_one_is_learned_from(recipe):
    config = load(recipe)
    other = load("instructgpt") if recipe == "tiny" else None
    with pytest.raises(ValueError, match="expected a reward model exactly where one is learned from"):
        LifecycleConfig(**{**dict(config), "reward": other and other.reward})


def test_a_setting_of_a_judge_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="expected a reward model exactly where one is learned from"):
        load("instructgpt", ["preference.reward_source=contract"])
