"""Our Llama says what transformers' says: alone, beside others, behind guesses, in every shape it claims to know."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lifecycle.evaluation import llama as module
from lifecycle.evaluation.llama import Llama

SHAPES = {
    "one layer": {"num_hidden_layers": 1},
    "grouped heads": {"num_attention_heads": 4, "num_key_value_heads": 2},
    "one key head": {"num_key_value_heads": 1},
    "wide heads": {"head_dim": 32},
    "own head": {"tie_word_embeddings": False},
    "odd vocabulary": {"vocab_size": 301},
    "llama3 rope": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
}


def network(**shape):
    """Random weights, large enough that what is said depends on all that was read."""
    torch.manual_seed(0)
    settings = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "initializer_range": 0.3,
    }
    return LlamaForCausalLM(LlamaConfig(**(settings | shape))).eval()


def rows(shared, lengths=(9, 3, 14, 1, 9)):
    """Rows that begin alike, the last of them twice."""
    found = [
        list(range(6, 6 + shared)) + [(7 * n + k) % 300 for k in range(length)] for n, length in enumerate(lengths)
    ]
    return [*found, found[-1]]


@torch.inference_mode()
def expected(model, ids):
    """What transformers says behind every token of one row, read alone."""
    return model(torch.tensor([ids])).logits[0].float()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shared", [0, 12])
def test_every_shape_says_what_transformers_says(shape, shared):
    model = network(**SHAPES[shape])
    fast = Llama(model)
    some = rows(shared)
    logits, past = fast.read(some)
    for row, found in zip(some, logits, strict=True):
        torch.testing.assert_close(found, expected(model, row)[-1], rtol=1e-4, atol=1e-4)
    then = fast.step(past, [[20 + n] for n in range(len(some))])
    for n, (row, found) in enumerate(zip(some, then, strict=True)):
        torch.testing.assert_close(found, expected(model, [*row, 20 + n])[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("portion", [1, 20, 1000])
@pytest.mark.parametrize("shared", [0, 5, 12, 40])
def test_scores_are_those_of_each_row_alone_however_it_is_cut(monkeypatch, portion, shared):
    monkeypatch.setattr(module, "PORTION", portion)
    model = network()
    some = rows(shared)
    wanted = [[*row[1:], 17][-(n + 1) :] for n, row in enumerate(some)]
    wanted[2][0] = wanted[4][-1] = -100
    for row, ids, (nats, first) in zip(some, wanted, Llama(model).scores(some, wanted), strict=True):
        logits = expected(model, row)[-len(ids) :]
        known = np.array(ids) >= 0
        target = torch.tensor(ids).clamp(min=0)
        truth = -logits.log_softmax(-1).gather(-1, target[:, None])[:, 0]
        np.testing.assert_allclose(nats[known], truth.numpy()[known], rtol=1e-4, atol=1e-4)
        assert (first[known] == (logits.argmax(-1) == target).numpy()[known]).all()
        assert not nats[~known].any()
        assert not first[~known].any()


def test_guesses_are_checked_in_the_pass_that_reads_the_prompt():
    model, some = network(), rows(10)
    guesses = [[30 + k for k in range(n)] for n in range(len(some))]
    logits, past = Llama(model).read(some, guesses)
    truth = torch.cat(
        [expected(model, [*row, *guess])[len(row) - 1 :] for row, guess in zip(some, guesses, strict=True)]
    )
    torch.testing.assert_close(logits, truth, rtol=1e-4, atol=1e-4)
    assert past.length_B.tolist() == [len(row) for row in some]


def test_rows_go_on_behind_the_guesses_that_were_right_and_forget_the_others():
    model, some = network(), rows(10)
    fast = Llama(model)
    said = [list(row) for row in some]
    guesses = [[30 + k for k in range(n % 4)] for n in range(len(some))]
    _, past = fast.read(some, guesses)
    kept = list(range(len(some)))
    for step in range(40):  # past the room the storage begins with
        right = [min(step % 3, len(guess)) for guess in guesses]
        past.advance(right)
        for row, guess, count in zip(kept, guesses, right, strict=True):
            said[row] += guess[:count]
        if step in (0, 3, 7):  # rows end: from the middle, the beginning, the end
            open_rows = [n for n in range(len(kept)) if n != (2, 0, len(kept) - 1)[(0, 3, 7).index(step)]]
            kept = [kept[n] for n in past.keep(open_rows)]
        guesses = [[(50 + step + k) % 300 for k in range((row + step) % 4)] for row in kept]
        for row in kept:
            said[row].append((9 * step + row) % 300)
        logits = fast.step(past, [[said[row][-1], *guess] for row, guess in zip(kept, guesses, strict=True)])
    at = 0
    for row, guess in zip(kept, guesses, strict=True):
        truth = expected(model, [*said[row], *guess])[-len(guess) - 1 :]
        torch.testing.assert_close(logits[at : at + len(guess) + 1], truth, rtol=1e-3, atol=1e-3)
        at += len(guess) + 1


def test_a_row_that_is_asked_several_times_goes_on_several_ways():
    model, some = network(), rows(10)[:2]
    fast = Llama(model)
    _, past = fast.read(some)
    past.select(torch.tensor([1, 0, 1]))
    logits = fast.step(past, [[5], [6], [7]])
    for row, token, found in zip((1, 0, 1), (5, 6, 7), logits, strict=True):
        torch.testing.assert_close(found, expected(model, [*some[row], token])[-1], rtol=1e-4, atol=1e-4)


def test_what_is_no_number_in_one_row_stays_in_that_row():
    model = network(tie_word_embeddings=False)
    fast = Llama(model)
    with torch.no_grad():
        model.model.embed_tokens.weight[299] = float("nan")
    some = [[5, 6, 299], [5, 6, 7], [8]]
    logits, past = fast.read(some)
    then = fast.step(past, [[9], [9, 10], [9]])
    assert logits.isnan().any(-1).tolist() == [True, False, False]
    assert then.isnan().any(-1).tolist() == [True, False, False, False]


def test_weights_in_bf16_say_what_transformers_says_up_to_their_rounding():
    model = network(initializer_range=0.1).to(torch.bfloat16)
    some = rows(12)
    logits, _ = Llama(model).read(some)
    for row, found in zip(some, logits, strict=True):
        torch.testing.assert_close(found, expected(model, row)[-1], rtol=0.05, atol=0.05)
