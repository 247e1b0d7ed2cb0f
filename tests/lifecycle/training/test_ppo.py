"""Every equation against numbers worked by hand, and a bandit that they must solve together."""

import math

import pytest
import torch
from torch import tensor

from lifecycle.training import ppo

ONES = torch.ones(1, 3)


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small wait longer for a second thread than they take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_token_earns_its_kl_and_the_last_one_the_score_as_well():
    """Answer of 2 tokens, beta 0.5: -0.5 * (-1 + 2) = -0.5, then -0.5 * (-2 + 1) + 3 = 3.5; padding earns nothing."""
    mask = tensor([[1.0, 1.0, 0.0]])
    policy, reference = tensor([[-1.0, -2.0, -9.0]]), tensor([[-2.0, -1.0, -4.0]])
    given = (tensor([3.0]), policy, reference, mask)
    assert ppo.token_rewards(*given, kl_coefficient=0.5).tolist() == [[-0.5, 3.5, 0.0]]
    assert ppo.shaped_scores(*given, kl_coefficient=0.5).tolist() == [3.0]


def test_generalized_advantages_are_those_worked_by_hand():
    """gamma 1, lambda 0.5, rewards 0 0 1, values .5 .4 .8.

    delta: 0 + .4 - .5 = -.1; 0 + .8 - .4 = .4; 1 + 0 - .8 = .2.
    A_2 = .2; A_1 = .4 + .5 * .2 = .5; A_0 = -.1 + .5 * .5 = .15.
    """
    found = ppo.generalized_advantages(
        tensor([[0.0, 0.0, 1.0]]), tensor([[0.5, 0.4, 0.8]]), ONES, discount=1.0, gae_lambda=0.5
    )
    assert found.tolist()[0] == pytest.approx([0.15, 0.5, 0.2])


def test_no_value_flows_in_from_behind_an_answers_end():
    mask = tensor([[1.0, 1.0, 0.0]])
    found = ppo.generalized_advantages(
        tensor([[0.0, 1.0, 0.0]]), tensor([[0.25, 0.5, 77.0]]), mask, discount=0.9, gae_lambda=1.0
    )
    # delta_1 = 1 - .5 = .5; delta_0 = .9 * .5 - .25 = .2; A_0 = .2 + .9 * .5 = .65
    assert found.tolist()[0] == pytest.approx([0.65, 0.5, 0.0])


def test_with_lambda_1_an_advantage_is_the_whole_return_minus_the_value():
    generator = torch.Generator().manual_seed(0)
    reward, value = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    found = ppo.generalized_advantages(reward, value, torch.ones(4, 6), discount=0.9, gae_lambda=1.0)
    for t in range(6):
        whole = sum(0.9**k * reward[:, t + k] for k in range(6 - t))
        assert torch.allclose(found[:, t], whole - value[:, t], atol=1e-5)


def test_whitened_values_have_mean_0_and_variance_1_over_tokens_alone():
    """1, 3 and 5: mean 3, variance 8/3."""
    found = ppo.whitened(tensor([[1.0, 3.0], [5.0, 99.0]]), tensor([[1.0, 1.0], [1.0, 0.0]]))
    high = 2 / math.sqrt(8 / 3)
    assert found.flatten().tolist() == pytest.approx([-high, 0.0, high, 0.0], abs=1e-6)


def test_the_kl_coefficient_follows_zieglers_controller():
    """Target 2. At 2.2 nats: error .1, so 1 + .1 * .1; at 6 it is cut at .2, at 0 at -.2."""
    adaptive = ppo.AdaptiveKl(target=2.0)
    assert adaptive.after(0.5, 2.2) == pytest.approx(0.5 * 1.01)
    assert adaptive.after(0.5, 6.0) == pytest.approx(0.5 * 1.02)
    assert adaptive.after(0.5, 0.0) == pytest.approx(0.5 * 0.98)
    assert adaptive.after(0.5, 2.0) == 0.5


def test_leave_one_out_compares_with_the_other_answers_to_the_same_prompt():
    """Group 1, 0, 0, 0: 1 - 0 = 1 and 0 - 1/3. Group 4, 2 | 2, 2 of two: 4 - 2 and 2 - 4; 0."""
    found = ppo.leave_one_out(tensor([1.0, 0.0, 0.0, 0.0]), 4).tolist()
    assert found == pytest.approx([1.0, -1 / 3, -1 / 3, -1 / 3])
    assert ppo.leave_one_out(tensor([4.0, 2.0, 2.0, 2.0]), 2).tolist() == [2.0, -2.0, 0.0, 0.0]


def test_relative_to_group_is_zero_where_all_answers_score_alike():
    """1, 0, 0, 1: mean .5, deviation .5."""
    found = ppo.relative_to_group(tensor([1.0, 0.0, 0.0, 1.0, 7.0, 7.0, 7.0, 7.0]), 4)
    assert found.tolist() == [1.0, -1.0, -1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [
        (1.1, 2.0, -2.2, True),
        (1.5, 2.0, -2.4, False),  # good, and more likely by enough: no further push
        (0.5, 2.0, -1.0, True),
        (1.5, -2.0, 3.0, True),  # bad, and more likely: pushed back however far it went
        (0.5, -2.0, 1.6, False),
    ],
)
def test_the_policy_loss_is_eq_7_with_a_clip_of_02(ratio, advantage, loss, moves):
    logprob = tensor([[math.log(ratio)]], requires_grad=True)
    found = ppo.clipped_policy_loss(logprob, torch.zeros(1, 1), tensor([[advantage]]), clip=0.2)
    found.sum().backward()
    assert found.item() == pytest.approx(loss)
    assert (logprob.grad.item() != 0) == moves


def test_on_policy_the_gradient_is_reinforces():
    logprob = tensor([[-1.0, -2.0]], requires_grad=True)
    advantage = tensor([[3.0, -4.0]])
    ppo.clipped_policy_loss(logprob, logprob.detach(), advantage, clip=0.2).sum().backward()
    assert torch.equal(logprob.grad, -advantage)


def test_the_value_loss_is_the_larger_of_both_errors():
    """Old value 0, clip .2, return 1. Value .1: .5 * .9^2. Value .9: held at .2, .5 * .8^2. Value -1: .5 * 2^2."""
    found = ppo.clipped_value_loss(tensor([[0.1, 0.9, -1.0]]), torch.zeros(1, 3), ONES, clip=0.2)
    assert found.tolist()[0] == pytest.approx([0.405, 0.32, 2.0])


def test_losses_are_averaged_as_each_method_says():
    """Answers of 1 and 3 tokens with losses 4 | 1, 1, 1."""
    loss, mask = tensor([[4.0, 9.0, 9.0], [1.0, 1.0, 1.0]]), tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    found = {over: (loss * ppo.token_weights(mask, over)).sum().item() for over in ("tokens", "answers", "sums")}
    assert found == pytest.approx({"tokens": 7 / 4, "answers": (4 + 1) / 2, "sums": (4 + 3) / 2})


def test_the_kl_estimate_is_kl_on_average_and_never_negative():
    """Over two tokens with p = (.75, .25) and reference (.5, .5): KL = .75 ln 1.5 + .25 ln .5."""
    policy, reference = tensor([0.75, 0.25]), tensor([0.5, 0.5])
    each = ppo.kl_estimate(policy.log(), reference.log())
    assert (each >= 0).all()
    assert (policy * each).sum().item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), abs=1e-6)


def test_pretraining_text_is_a_term_of_the_loss_by_its_weight():
    assert ppo.with_pretraining(tensor(-0.5), tensor(3.0), weight=0.25).item() == 0.25


def test_the_reward_models_loss_is_eq_1():
    """A margin of 0 is log 2; of ln 3 it is -log(3/4)."""
    found = ppo.bradley_terry_loss(tensor([1.0, math.log(3)]), tensor([1.0, 0.0]))
    assert found.tolist() == pytest.approx([math.log(2), math.log(4 / 3)])


@pytest.mark.parametrize("method", ["ppo", "rloo", "grpo"])
def test_each_method_solves_a_bandit(method):
    """Two prompts, five arms, one token; the third arm of the one and the first of the other pay 1, all else 0."""
    generator = torch.Generator().manual_seed(0)
    logits, value = torch.zeros(2, 5, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([logits, value], lr=0.1)
    right, prompts, mask = tensor([2, 0]), tensor([0] * 16 + [1] * 16), torch.ones(32, 1)
    for _ in range(60):
        arms = torch.multinomial(logits.detach().softmax(-1)[prompts], 1, generator=generator)
        score = (arms[:, 0] == right[prompts]).float()
        old, old_value = logits.detach().log_softmax(-1)[prompts].gather(1, arms), value.detach()[prompts][:, None]
        match method:
            case "ppo":
                advantage = ppo.generalized_advantages(score[:, None], old_value, mask, discount=1.0, gae_lambda=0.95)
                returns, advantage = advantage + old_value, ppo.whitened(advantage, mask)
            case "rloo":
                advantage = ppo.leave_one_out(score, 16)[:, None]
            case "grpo":
                advantage = ppo.relative_to_group(score, 16)[:, None]
        for _ in range(2):
            logprob = logits.log_softmax(-1)[prompts].gather(1, arms)
            loss = ppo.clipped_policy_loss(logprob, old, advantage, clip=0.2).mean()
            if method == "ppo":
                loss = loss + ppo.clipped_value_loss(value[prompts][:, None], old_value, returns, clip=0.2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert (logits.softmax(-1)[[0, 1], right] > 0.9).all()
    if method == "ppo":
        assert value.detach().tolist() == pytest.approx([1.0, 1.0], abs=0.3)
