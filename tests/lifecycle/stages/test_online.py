"""The online stage: what it refuses at once, and a whole run from SFT over a reward model in workers of their own."""

import pytest
from pydantic import ValidationError

from lifecycle.errors import ContractError
from lifecycle.stages.online import OnlineConfig, align_online
from lifecycle.stages.reward import RewardConfig, train_reward
from lifecycle.training.post import Lora

SMALL = {"epochs": 0.5, "batch_prompts": 8, "answers_per_prompt": 2, "minibatch_answers": 8, "max_new_tokens": 8}


def config(method: str = "rloo", source: str = "contract", **settings) -> OnlineConfig:
    return OnlineConfig(method=method, reward_source=source, threads=1, **{**SMALL, **settings})


def test_a_reward_model_is_asked_for_exactly_where_it_is_used(sft, comparisons, out_dir):
    with pytest.raises(ContractError, match=r"expected a reward model .* exactly where it is used, found none"):
        align_online(config(source="model"), sft, comparisons, out_dir=out_dir)
    with pytest.raises(ContractError, match=r"expected pretraining text .* exactly where it is used, found none"):
        align_online(config(pretraining_weight=0.1), sft, comparisons, out_dir=out_dir)
    assert not list(out_dir.iterdir())


def test_only_an_sft_checkpoint_learns_and_only_a_reward_model_judges(base, sft, comparisons, out_dir):
    with pytest.raises(ContractError, match="expected a checkpoint with role sft, found 'base'"):
        align_online(config(), base, comparisons, out_dir=out_dir)
    with pytest.raises(ContractError, match="expected a checkpoint with role reward, found 'sft'"):
        align_online(config(source="model"), sft, comparisons, sft, out_dir=out_dir)
    with pytest.raises(ContractError, match="expected a checkpoint with role sft, found 'base'"):
        train_reward(RewardConfig(), base, comparisons, out_dir=out_dir)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"answers_per_prompt": 1}, "rloo compares answers to one prompt"),
        ({"minibatch_answers": 7}, "a multiple of minibatch_answers, found 16 and 7"),
        ({"ranks": 16}, "a prompt a step for each rank, found 8 for 16"),
        ({"lora": Lora(dora=True)}, "expected plain LoRA"),
        ({"lora": Lora(dropout=0.1)}, "expected plain LoRA"),
        ({"precision": "bf16"}, "fp32"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        config(**settings)


def test_a_judge_is_not_trained_on_a_base_in_4_bits():
    with pytest.raises(ValidationError, match="a reward model is not trained on a base in 4 bits"):
        RewardConfig(lora=Lora(quantized_base="nf4"))


@pytest.mark.slow
def test_a_run_over_a_reward_model_ends_as_a_sealed_checkpoint(sft, comparisons, tmp_path):
    learned = RewardConfig(batch_pairs=8, learning_rate=1e-3, threads=1)
    judge = train_reward(learned, sft, comparisons, out_dir=tmp_path / "judge")
    assert (judge.role, judge.steps, judge.protocol_digest) == ("reward", 4, sft.protocol_digest)
    assert "calibration.json" in judge.manifest.files
    made = align_online(config("ppo", "model"), sft, comparisons, judge, out_dir=tmp_path / "out")
    assert (made.role, made.steps, made.protocol_digest) == ("preference", 2, sft.protocol_digest)
    assert [entry.digest for entry in made.manifest.inputs] == [sft.digest, comparisons.digest, judge.digest]
