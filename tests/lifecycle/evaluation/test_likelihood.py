"""Log-probabilities are those of the whole text read at once, however it is batched and shared."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from lifecycle.evaluation.faster import faster
from lifecycle.evaluation.likelihood import Question, log_probabilities


@pytest.fixture
def model(base):
    return AutoModelForCausalLM.from_pretrained(base.path).eval()


@pytest.fixture(params=[lambda model: model, faster], ids=["transformers", "ours"])
def network(model, request):
    return request.param(model)


def ids(count, seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(6, 300, (count,), generator=draw).tolist()


@torch.inference_mode()
def expected(model, prompt, continuation):
    whole = torch.tensor([prompt + continuation])
    logp = model(whole[:, :-1]).logits.log_softmax(-1)[0, len(prompt) - 1 :]
    wanted = whole[0, len(prompt) :]
    return logp.gather(-1, wanted[:, None]).sum().item(), (logp.argmax(-1) == wanted).tolist()


@pytest.mark.parametrize("choices", [1, 4])
def test_every_continuation_has_the_probability_of_the_whole_text(model, network, choices):
    questions = [
        Question(ids(3 + 2 * n, n), [ids(1 + (n + k) % 5, 100 * n + k) for k in range(choices)]) for n in range(7)
    ]
    found = log_probabilities(network, questions)
    for question, results in zip(questions, found, strict=True):
        assert len(results) == choices
        for continuation, result in zip(question.continuations, results, strict=True):
            total, first = expected(model, question.prompt, continuation)
            assert result.log_probability == pytest.approx(total, rel=1e-4)
            assert result.first_choice == first


def test_the_id_that_fills_short_rows_is_a_token_like_any_other(model, network):
    """A foreign tokenizer may pad with its stop token: nothing is taken for padding because of its id."""
    questions = [Question([0, 9, 0][: 1 + n], [[0, 11 + n, 0][: 3 - n], [0]]) for n in range(3)]
    for question, results in zip(questions, log_probabilities(network, questions), strict=True):
        for continuation, result in zip(question.continuations, results, strict=True):
            assert result.log_probability == pytest.approx(expected(model, question.prompt, continuation)[0], rel=1e-4)


def test_single_tokens_need_no_second_pass(model, monkeypatch):
    calls = []
    forward = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    found = log_probabilities(model, [Question(ids(5, 0), [[token] for token in range(6, 300)])])
    assert len(calls) == 1
    assert sum(math.exp(one.log_probability) for one in found[0]) <= 1.0


def test_what_is_no_number_stays_none(model, network):
    with torch.no_grad():
        model.model.embed_tokens.weight[299] = float("nan")
    (found,) = log_probabilities(network, [Question([10, 11], [[12], [13]])])
    assert all(math.isnan(one.log_probability) for one in found)
