"""A scoring head that equals TRL's."""

import torch
from trl.trainer.utils import add_fused_lm_head

from lifecycle.training.scoring import score_only_the_loss
from lifecycle.workers import posttrain


def test_our_head_gives_the_log_probs_and_gradients_of_trl(base):
    torch.manual_seed(1)
    ids = torch.randint(6, 200, (3, 20))
    labels = ids.masked_fill(torch.rand(ids.shape) < 0.7, -100)
    found = {}
    for name in ("trl", "ours"):
        model = posttrain.load_model(base.path)
        add_fused_lm_head(model, outputs=("log_probs", "is_top1"))
        if name == "ours":
            score_only_the_loss(model)
        outputs = model(input_ids=ids, labels=labels, fused_lm_head=True)
        outputs.log_probs.sum().backward()
        gradient = model.model.layers[0].mlp.up_proj.weight.grad
        found[name] = (outputs.log_probs, outputs.is_top1.bool(), outputs.label_mask, gradient)
    for ours, theirs in zip(found["ours"], found["trl"], strict=True):
        torch.testing.assert_close(ours, theirs)
