"""Samples follow the model's probabilities."""

import torch

from lifecycle.evaluation.noise import Noise


def test_samples_follow_the_probabilities():
    logits_V = torch.tensor([2.0, 1.0, 0.0, -1.0, -8.0])
    noise = Noise(5, seed=3, device=torch.device("cpu"))
    drawn = (logits_V + noise.gumbel([(f"item {n}", n % 7) for n in range(20_000)])).argmax(-1)
    shares = torch.bincount(drawn, minlength=5) / 20_000
    torch.testing.assert_close(shares, logits_V.softmax(-1), atol=0.012, rtol=0)  # 4 standard errors of the largest
