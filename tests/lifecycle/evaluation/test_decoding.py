"""Our decoding loop gives what transformers' generate() gives, in any batch, and its samples follow the model."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from lifecycle.evaluation.decoding import NOT_FINITE, Decoding, Prompt, decode
from lifecycle.evaluation.drafts import Drafts
from lifecycle.evaluation.faster import faster
from lifecycle.evaluation.llama import Llama

DECODING = Decoding(stop_id=2, max_new_tokens=12, temperature=1.0, seed=0)


@pytest.fixture
def model(base):
    """Random weights, made less sure of one token: answers of many lengths, some of which stop."""
    model = AutoModelForCausalLM.from_pretrained(base.path).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
        model.model.embed_tokens.weight[2] = 0.2 * torch.randn(32)
    return model


@pytest.fixture(params=["transformers", "ours"])
def network(model, request):
    """The model that answers: as it is, or as our `Llama`."""
    found = faster(model) if request.param == "ours" else model
    assert isinstance(found, Llama) == (request.param == "ours")
    return found


def prompts(count=13):
    draw = torch.Generator().manual_seed(0)
    return [Prompt(f"p{n}", torch.randint(6, 300, (3 + n * 2,), generator=draw).tolist()) for n in range(count)]


def answers(model, some, decoding=DECODING, batch=4):
    found = [draw for at in range(0, len(some), batch) for draw in decode(model, some[at : at + batch], decoding)]
    return {(draw.prompt.id, draw.mode): draw for draw in found}


def test_greedy_equals_generate(model, network):
    found = answers(network, prompts())
    stopped = 0
    for prompt in prompts():
        ids = torch.tensor([prompt.ids])
        expected = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=2,
            pad_token_id=1,
            use_cache=True,
        )[0, ids.shape[1] :].tolist()
        reply = found[prompt.id, "greedy"]
        assert reply.ids + [2] * reply.stopped == expected
        stopped += reply.stopped
    assert 0 < stopped < 13  # both endings were tried


def test_probabilities_are_those_of_the_whole_answer_read_at_once(model, network):
    for reply in answers(network, prompts()).values():
        ids = torch.tensor([reply.prompt.ids + reply.ids + [2] * reply.stopped])
        with torch.inference_mode():
            logp = model(ids[:, :-1]).logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[0, -reply.tokens :]
        assert reply.log_probability == pytest.approx(logp.sum().item(), rel=1e-3)


def test_an_answer_does_not_depend_on_its_batch(network):
    found = {batch: answers(network, prompts(), batch=batch) for batch in (1, 5, 64)}
    for key, reply in found[1].items():
        assert [(other[key].ids, other[key].stopped) for other in found.values()] == [(reply.ids, reply.stopped)] * 3


def test_a_sample_is_named_by_its_seed_and_item(network):
    first, again = answers(network, prompts()), answers(network, prompts())
    other = answers(network, prompts(), replace(DECODING, seed=1))
    sampled = [(p.id, "sampled") for p in prompts()]
    assert [first[key].ids for key in sampled] == [again[key].ids for key in sampled]
    assert [first[key].ids for key in sampled] != [other[key].ids for key in sampled]
    greedy = [(p.id, "greedy") for p in prompts()]
    assert [first[key].ids for key in greedy] == [other[key].ids for key in greedy]


def test_a_low_temperature_is_greedy(network):
    found = answers(network, prompts(), replace(DECODING, temperature=1e-4))
    for prompt in prompts():
        assert found[prompt.id, "sampled"].ids == found[prompt.id, "greedy"].ids


def test_logits_that_are_no_numbers_are_a_fault_of_that_item_alone(model, network):
    with torch.no_grad():
        model.model.embed_tokens.weight[299] = float("nan")  # tied: no logit of any row is finite now
    assert {reply.fault for reply in answers(network, prompts(3)).values()} == {NOT_FINITE}


def test_many_samples_of_a_prompt_are_different_and_the_first_is_the_only_one_of_before(network):
    many = decode(network, prompts(3), replace(DECODING, greedy=False, samples=5))
    assert [(draw.prompt.id, draw.mode, draw.sample) for draw in many] == [
        (f"p{n}", "sampled", sample) for n in range(3) for sample in range(5)
    ]
    assert len({tuple(draw.ids) for draw in many[:5]}) > 1
    alone = answers(network, prompts(3))
    assert [many[5 * n].ids for n in range(3)] == [alone[f"p{n}", "sampled"].ids for n in range(3)]


def test_an_answer_ends_with_the_text_it_is_told_to_stop_at(network, bpe):
    whole = answers(network, prompts())["p3", "greedy"]
    stop = bpe.decode(whole.ids[2:4], skip_special_tokens=False)
    (draw,) = decode(network, [prompts()[3]], replace(DECODING, samples=0, stop=(stop,)), bpe)
    assert draw.stopped
    assert draw.at_stop_text
    assert draw.ids == whole.ids[: len(draw.ids)]
    assert len(draw.ids) <= 4
    assert stop in bpe.decode(draw.ids, skip_special_tokens=False)
    assert draw.tokens == len(draw.ids)


@pytest.mark.parametrize("kind", ["right", "wrong", "half"])
def test_guesses_change_no_answer(model, monkeypatch, kind):
    fast, decoding = faster(model), replace(DECODING, samples=2)
    plain = decode(fast, prompts(), decoding)
    said = [draw.ids + [2] * draw.stopped for draw in plain[::3]]
    keep = {"right": 99, "wrong": 0, "half": 3}[kind]
    told = [[*ids[:keep], *(299 - n for n in range(9))] for ids in said]
    drafts = Drafts(zip([prompt.ids for prompt in prompts()], told, strict=True), stop_id=2)
    drafts.worth = True
    steps = []
    step = Llama.step
    monkeypatch.setattr(Llama, "step", lambda self, past, tokens: steps.append(tokens) or step(self, past, tokens))
    guessed = decode(fast, prompts(), decoding, drafts=drafts)
    for one, other in zip(plain, guessed, strict=True):
        assert (one.ids, one.stopped, one.mode, one.sample) == (other.ids, other.stopped, other.mode, other.sample)
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-3)
    if kind == "right":
        assert max(len(some) for tokens in steps for some in tokens) > 1  # guesses were checked on the way, too


def test_a_text_that_ends_an_answer_ends_it_within_a_guess(model, bpe):
    fast = faster(model)
    whole = answers(fast, prompts())["p3", "greedy"]
    stop = bpe.decode(whole.ids[2:4], skip_special_tokens=False)
    decoding = replace(DECODING, samples=0, stop=(stop,))
    drafts = Drafts([(prompts()[3].ids, whole.ids)], stop_id=2)
    drafts.worth = True
    (plain,), (guessed,) = (decode(fast, [prompts()[3]], decoding, bpe, some) for some in (None, drafts))
    assert (plain.ids, plain.at_stop_text) == (guessed.ids, guessed.at_stop_text)
    assert guessed.at_stop_text
