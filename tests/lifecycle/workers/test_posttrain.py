"""What SFT and preference tuning share: a scoring head that equals TRL's, and a tokenizer that is the model's own."""

import json

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from lifecycle.chat.render import render
from lifecycle.errors import ContractError
from lifecycle.workers import posttrain

CONVERSATION = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "xy"}]


def test_our_head_gives_the_log_probs_and_gradients_of_trl(base):
    torch.manual_seed(1)
    ids = torch.randint(6, 200, (3, 20))
    labels = ids.masked_fill(torch.rand(ids.shape) < 0.7, -100)
    found = {}
    for name in ("trl", "ours"):
        model = posttrain.load_model(base.path)
        add_fused_lm_head(model, outputs=("log_probs", "is_top1"))
        if name == "ours":
            posttrain.score_only_the_loss(model)
        outputs = model(input_ids=ids, labels=labels, fused_lm_head=True)
        outputs.log_probs.sum().backward()
        gradient = model.model.layers[0].mlp.up_proj.weight.grad
        found[name] = (outputs.log_probs, outputs.is_top1.bool(), outputs.label_mask, gradient)
    for ours, theirs in zip(found["ours"], found["trl"], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_template_that_differs_from_our_renderer_is_refused(base):
    spoken = posttrain.load_protocol(base.path)
    ids = render(spoken.tokenizer, CONVERSATION).ids
    spoken.same_as_template(CONVERSATION, ids, row="r1")
    spoken.wrapped.chat_template = spoken.wrapped.chat_template.replace(
        "message['content']", "message['content'] + '!'"
    )
    with pytest.raises(ContractError, match="row r1: expected the ids of the checkpoint's chat template"):
        spoken.same_as_template(CONVERSATION, ids, row="r1")


def test_only_a_row_with_a_typed_special_token_is_passed_over_by_the_comparison(base):
    spoken, wrong_ids = posttrain.load_protocol(base.path), [0]
    typed = [{"role": "user", "content": "what is <|end|>?"}, CONVERSATION[1]]
    assert spoken.same_as_template(typed, wrong_ids, row="r1") is None
    with pytest.raises(ContractError):
        spoken.same_as_template(CONVERSATION, wrong_ids, row="r1")


def test_padding_with_the_stop_token_is_refused(base):
    file = base.path / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "pad_token": "<|end|>"}))
    with pytest.raises(ContractError, match="expected a padding token of its own, found the stop token 2 as padding"):
        posttrain.load_protocol(base.path)
