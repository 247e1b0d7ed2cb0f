"""What is read off logits is what torch says of them, ties and all."""

import pytest
import torch
from torch.nn import functional

from lifecycle.evaluation.scoring import BLOCK, are_finite, first_choice, nats_of, scores


def logits(size=4 * BLOCK, rows=50):
    """Few different values, so that the largest is often there twice."""
    return torch.randint(0, 6, (rows, size), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("size", [4 * BLOCK, 4 * BLOCK + 3, 5])
def test_the_first_choice_is_the_first_of_the_largest(size):
    some = logits(size)
    expected = [row.index(max(row)) for row in some.tolist()]
    assert first_choice(some).tolist() == expected


def test_scores_are_cross_entropy_and_only_the_first_of_equals_is_chosen():
    some = logits()
    wanted = torch.randint(0, some.shape[1], (len(some),), generator=torch.Generator().manual_seed(1))
    wanted[:20] = first_choice(some)[:20]
    nats, first = scores(some.clone(), wanted)
    torch.testing.assert_close(nats, functional.cross_entropy(some, wanted, reduction="none"))
    torch.testing.assert_close(nats, nats_of(some, wanted))
    assert torch.equal(first, first_choice(some) == wanted)
    assert first[:20].all()


def test_a_row_with_a_logit_that_is_no_number_is_not_finite_and_a_large_sum_is():
    some = torch.zeros(5, 8)
    some[0, 3], some[1, 3], some[2, 3] = torch.nan, torch.inf, -torch.inf
    some[3] = 3e38
    assert are_finite(some).tolist() == [False, False, False, True, True]
    nats, first = scores(some[:1].clone(), torch.tensor([0]))
    assert nats.isnan().all()
    assert not first.any()
