"""Every equation once by hand: two pairs whose numbers fit on a line."""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from trl.trainer.dpo_trainer import DPOTrainer

from lifecycle.training.losses_preference import PairLogProbs, Pairs, dpo, ipo, kto, kto_kl, loss, orpo, rewards, simpo


def pair(chosen: float, rejected: float) -> PairLogProbs:
    return PairLogProbs(torch.tensor([chosen]), torch.tensor([rejected]))


def log_sigmoid(x: float) -> float:
    return -math.log(1 + math.exp(-x))


# Chosen: 4 tokens, log p from -6 to -4. Rejected: 8 tokens, from -10 to -14. Log-ratios +2 and -4.
GIVEN = Pairs(policy=pair(-4.0, -14.0), tokens=pair(4.0, 8.0), reference=pair(-6.0, -10.0), kl=torch.tensor(1.0))


def test_dpo_by_hand():
    assert dpo(GIVEN, beta=0.5).item() == pytest.approx(-log_sigmoid(0.5 * (2 - -4)))


def test_ipo_by_hand():
    # A token: +2/4 and -4/8, a difference of 1; the margin asked for is 1 / (2 * 0.25) = 2.
    assert ipo(GIVEN, tau=0.25).item() == pytest.approx((1 - 2) ** 2)


def test_kto_by_hand():
    sigmoid = 1 / (1 + math.exp(-0.5 * (2 - 1)))
    other = 1 / (1 + math.exp(-0.5 * (1 - -4)))
    assert kto(GIVEN, beta=0.5).item() == pytest.approx((1 - sigmoid + 1 - other) / 2)


def test_ktos_kl_is_a_mean_log_ratio_never_below_zero_and_without_a_gradient():
    policy = torch.tensor([-3.0, -5.0], requires_grad=True)
    assert kto_kl(policy, torch.tensor([-5.0, -6.0])).item() == 1.5
    assert kto_kl(policy, torch.tensor([-1.0, -1.0])).item() == 0.0
    assert not kto_kl(policy, torch.tensor([-5.0, -6.0])).requires_grad


def test_orpo_by_hand():
    # Mean log p -1 and -1.75: p of .368 and .174, odds of .582 and .210.
    odds = [math.exp(m) / (1 - math.exp(m)) for m in (-1.0, -1.75)]
    expected = 1.0 - 0.1 * log_sigmoid(math.log(odds[0]) - math.log(odds[1]))
    assert orpo(GIVEN, weight=0.1).item() == pytest.approx(expected, rel=1e-5)


def test_simpo_by_hand():
    assert simpo(GIVEN, beta=2.0, margin=0.5).item() == pytest.approx(-log_sigmoid(2 * (-1.0 - -1.75) - 0.5))


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_policy_that_is_its_reference_has_one_loss_whatever_the_pairs(method):
    policy = pair(-3.0, -70.0)
    same = Pairs(policy=policy, tokens=pair(2.0, 9.0), reference=policy, kl=torch.tensor(0.0))
    expected = {"dpo": math.log(2), "kto": 0.5}[method]
    assert loss(method, same, beta=0.3, margin=1.0).item() == pytest.approx(expected)


@pytest.mark.parametrize("method", ["dpo", "ipo", "kto", "orpo", "simpo"])
def test_a_step_down_the_gradient_makes_chosen_likelier_against_rejected(method):
    values = torch.tensor([[-4.0, -4.5]], requires_grad=True)
    given = Pairs(PairLogProbs(values[:, 0], values[:, 1]), pair(4.0, 4.0), pair(-4.0, -4.5), torch.tensor(0.0))
    loss(method, given, beta=0.1, margin=1.0).sum().backward()
    assert values.grad is not None
    chosen, rejected = values.grad[0].tolist()
    assert chosen < 0 < rejected


def test_orpo_keeps_its_gradient_where_an_answer_is_almost_certain():
    sums = torch.tensor([0.0, -1e-8, -60.0], requires_grad=True)
    given = Pairs(PairLogProbs(sums, sums.flip(0)), PairLogProbs(torch.ones(3), torch.ones(3)))
    orpo(given, weight=0.1).sum().backward()
    assert sums.grad is not None
    assert torch.isfinite(sums.grad).all()


def test_a_reward_is_a_log_ratio_or_without_a_reference_a_mean():
    assert [r.item() for r in rewards("dpo", GIVEN, beta=0.5)] == [1.0, -2.0]
    assert [r.item() for r in rewards("simpo", GIVEN, beta=2.0)] == [-2.0, -3.5]


def test_dpo_and_ipo_are_what_trl_computes():
    """TRL's own loss on random pairs: its code, not a copy of it."""
    torch.manual_seed(0)
    tokens_BT = (torch.arange(6) < torch.tensor([[3], [5], [4], [2]])).int()  # two chosen, two rejected
    log_probs_BT = -torch.rand(4, 5) * tokens_BT[:, 1:]
    known = -torch.rand(4) * 3

    def trl(kind: str, beta: float) -> float:
        trainer = SimpleNamespace(
            model=SimpleNamespace(training=True),
            accelerator=SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x),
            aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl",
            loss_types=[kind], loss_weights=[1.0], beta=beta, use_weighting=False, _tp_size=1, _total_train_tokens=0,
            _metrics={"train": defaultdict(list)}, label_smoothing=0.0,
        )  # fmt: skip
        said = SimpleNamespace(
            log_probs=log_probs_BT,
            entropy=torch.zeros(4, 5),
            mean_logits=torch.zeros(4, 5),
            is_top1=torch.zeros(4, 5, dtype=torch.bool),
        )
        inputs = {
            "input_ids": torch.ones(4, 6).long(),
            "attention_mask": torch.ones(4, 6),
            "completion_mask": tokens_BT,
            "ref_chosen_logps": known[:2],
            "ref_rejected_logps": known[2:],
        }
        return float(DPOTrainer._compute_loss(trainer, lambda **_: said, inputs, False))

    sums, counts = log_probs_BT.sum(1), tokens_BT.sum(1).float()
    given = Pairs(
        PairLogProbs(sums[:2], sums[2:]), PairLogProbs(counts[:2], counts[2:]), PairLogProbs(known[:2], known[2:])
    )
    assert dpo(given, beta=0.3).mean().item() == pytest.approx(trl("sigmoid", 0.3), rel=1e-5)
    assert ipo(given, tau=0.3).mean().item() == pytest.approx(trl("ipo", 0.3), rel=1e-5)
