"""Answers laid out side by side score what each scores in a row of its own."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from lifecycle.training import pairs
from lifecycle.training.pairs import Asked

ASKED = [Asked([5, 6, 7, 8], ([9, 10, 3], [11, 3])), Asked([5, 12], ([13, 14, 15, 3], [9, 3]))]


@pytest.fixture
def model(base):
    model = AutoModelForCausalLM.from_pretrained(base.path, attn_implementation="eager")
    pairs.score_answers(model)
    return model


def by_hand(model, one: Asked, answer) -> float:
    """log p of an answer, token after token."""
    ids, total = [*one.prompt_ids], 0.0
    for token in answer:
        total += model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)[token].item()
        ids.append(token)
    return total


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("layout", ["padded", "side_by_side"])
def test_an_answer_scores_the_same_in_any_layout(model, layout, attention):
    expected = [[by_hand(model, one, answer) for answer in one.answers] for one in ASKED]
    model.set_attn_implementation(attention)
    inputs = (
        pairs.padded(ASKED, pad_id=0)
        if layout == "padded"
        else pairs.side_by_side(ASKED, pad_id=0, additive=attention == "eager")
    )
    found, tokens = pairs.log_probs(model, inputs)
    assert tokens.tolist() == [[3, 2], [4, 2]]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-4)


def test_chunks_of_logits_change_neither_a_value_nor_a_gradient(model, monkeypatch):
    def scored() -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        found, _ = pairs.log_probs(model, pairs.padded(ASKED, pad_id=0))
        found.sum().backward()
        return found.detach(), model.model.embed_tokens.weight.grad.clone()

    whole = scored()
    monkeypatch.setattr(pairs, "MOST_LOGITS", 3 * model.config.vocab_size)
    for one, other in zip(whole, scored(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_an_answer_beside_another_does_not_see_it(model):
    alone, _ = pairs.log_probs(model, pairs.side_by_side(ASKED[:1], pad_id=0, additive=True))
    other = [Asked(ASKED[0].prompt_ids, ([20, 21, 22], ASKED[0].answers[1]))]
    beside, _ = pairs.log_probs(model, pairs.side_by_side(other, pad_id=0, additive=True))
    assert torch.allclose(alone[0, 1], beside[0, 1], atol=1e-6)
    assert not torch.allclose(alone[0, 0], beside[0, 0], atol=1e-3)
