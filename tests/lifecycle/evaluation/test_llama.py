"""Our Llama gives transformers' numbers: padded or not, with a shared beginning, behind a cache."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from lifecycle.evaluation.llama import Llama, Past, faster, target_scores


@pytest.fixture
def model(base):
    return AutoModelForCausalLM.from_pretrained(base.path).eval()


def padded(rows):
    width = max(map(len, rows))
    ids = torch.tensor([[1] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def rows(shared, lengths=(9, 3, 14, 1)):
    return [list(range(6, 6 + shared)) + [(7 * n + k) % 300 for k in range(length)] for n, length in enumerate(lengths)]


@pytest.mark.parametrize("shared", [0, 5, 12, 30])
@pytest.mark.parametrize("keep", [1, 3, 0])
def test_logits_are_those_of_transformers_whatever_the_rows_share(model, shared, keep):
    given = padded(rows(shared))
    with torch.inference_mode():
        expected, found = (net(**given, logits_to_keep=keep).logits for net in (model, Llama(model)))
    real = given["attention_mask"][:, -keep:].bool()  # what padding says is nobody's business
    torch.testing.assert_close(found[real], expected[real], rtol=1e-4, atol=1e-5)


def test_tokens_behind_a_cache_are_those_of_one_pass(model):
    fast, past = Llama(model), Past()
    given = padded(rows(12))
    fast(**given, past_key_values=past, use_cache=True, logits_to_keep=1)
    past.batch_select_indices(torch.tensor([2, 0]))
    last = given["attention_mask"].sum(1)[[2, 0]]
    for step in range(34):  # past the room the cache began with
        mask = torch.cat([given["attention_mask"][[2, 0]], torch.ones(2, step + 1, dtype=torch.long)], dim=1)
        token = torch.tensor([[20 + step], [40 + step]])
        found = fast(token, mask, (last + step)[:, None], past_key_values=past, use_cache=True).logits[:, -1]
    for row, begin, whole in ((0, 20, rows(12)[2]), (1, 40, rows(12)[0])):
        with torch.inference_mode():
            expected = model(torch.tensor([whole + [begin + step for step in range(34)]])).logits[0, -1]
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)


def test_scores_are_those_of_the_logits_and_what_is_not_wanted_is_zero(model):
    ids = torch.arange(6, 6 + 3 * 20).view(3, 20)
    wanted = ids[:, -7:] + 1
    wanted[1, 5:] = -100
    with torch.inference_mode():
        logits = model(ids).logits[:, -7:]
        wanted[2, 3] = logits[2, 3].argmax()
        (nats, first), (same, also) = (target_scores(net, wanted, input_ids=ids) for net in (Llama(model), model))
    expected = -logits.log_softmax(-1).gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
    torch.testing.assert_close(nats[wanted >= 0], expected[wanted >= 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(nats, same, rtol=1e-4, atol=1e-5)
    assert (nats[1, 5:] == 0).all()
    assert first[2, 3]
    assert torch.equal(first, also)


def test_grouped_heads_give_the_same(model):
    config = model.config.__class__(**{**model.config.to_dict(), "num_key_value_heads": 1})
    grouped = type(model)(config).eval()
    assert isinstance(faster(grouped), Llama)


def test_another_network_is_left_as_it_is(model):
    model.config.hidden_act = "gelu"
    assert faster(model) is model


def test_a_network_whose_numbers_differ_is_left_as_it_is(model, monkeypatch):
    monkeypatch.setattr(Llama, "_norm", lambda self, x, weight: x * weight)
    assert faster(model) is model
