"""Losses with known values."""

import math

import pytest
import torch
from torch.nn import functional

from lifecycle.training.losses import Padding, next_token_loss, token_losses


def test_uniform_logits_cost_log_of_the_vocabulary():
    assert next_token_loss(torch.zeros(2, 3, 8), torch.zeros(2, 3, dtype=torch.long)).item() == pytest.approx(
        math.log(8)
    )


def test_a_worked_example():
    logits_BTV = torch.tensor([[[math.log(3.0), 0.0], [0.0, 0.0]]])  # p = 3/4, 1/4; then 1/2, 1/2
    labels_BT = torch.tensor([[0, 1]])
    assert next_token_loss(logits_BTV, labels_BT).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


def test_bf16_logits_are_summed_in_fp32():
    logits_BTV = torch.zeros(4, 64, 512, dtype=torch.bfloat16)
    assert next_token_loss(logits_BTV, torch.zeros(4, 64, dtype=torch.long)).dtype == torch.float32


def test_the_mean_over_rows_is_the_loss_of_the_batch():
    torch.manual_seed(0)
    logits_BTV, labels_BT = torch.randn(3, 5, 7), torch.randint(0, 7, (3, 5))
    assert token_losses(logits_BTV, labels_BT).mean().item() == pytest.approx(
        next_token_loss(logits_BTV, labels_BT).item(), rel=1e-6
    )


def test_padding_costs_nothing_and_every_other_label_weighs_the_same_in_every_batch():
    torch.manual_seed(0)
    logits_BTV, labels_BT = torch.randn(2, 4, 7), torch.tensor([[1, 2, 3, 4], [5, 0, 0, 0]])
    padding = Padding(pad_id=0, labelled_share=5 / 8)
    real = next_token_loss(logits_BTV[labels_BT > 0][None], labels_BT[labels_BT > 0][None])
    assert next_token_loss(logits_BTV, labels_BT, padding).item() == pytest.approx(real.item(), rel=1e-6)
    ranks = [next_token_loss(logits_BTV[[rank]], labels_BT[[rank]], padding).item() for rank in range(2)]
    assert sum(ranks) / 2 == pytest.approx(real.item(), rel=1e-6)  # though one rank has four labels and the other one


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_gradient_by_hand_is_that_of_pytorch_and_takes_the_place_of_the_logits(dtype):
    torch.manual_seed(0)
    logits_BTV, labels_BT = (4 * torch.randn(3, 7, 50_000)).to(dtype), torch.randint(0, 50_000, (3, 7))
    theirs, ours = logits_BTV.clone().requires_grad_(), logits_BTV.clone().requires_grad_()
    expected = functional.cross_entropy(theirs.float().flatten(0, 1), labels_BT.flatten())
    (expected * 1024).backward()  # as a loss scale does
    used_up = ours * 1
    loss = next_token_loss(used_up, labels_BT)
    (loss * 1024).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    tolerance = torch.finfo(dtype)
    assert torch.allclose(ours.grad, theirs.grad, rtol=2 * tolerance.eps + 1e-5, atol=tolerance.smallest_normal / 512)
    assert torch.equal(used_up, ours.grad)


def test_padding_has_no_gradient():
    logits_BTV = torch.randn(1, 4, 7, requires_grad=True)
    next_token_loss(logits_BTV * 1, torch.tensor([[1, 2, 0, 0]]), Padding(pad_id=0, labelled_share=0.5)).backward()
    assert (logits_BTV.grad[0, :2] != 0).all()
    assert (logits_BTV.grad[0, 2:] == 0).all()
