"""One step's conversations as tensors: in every layout the same loss and the same gradients."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from lifecycle.chat.examples import Demonstration
from lifecycle.training import apart
from lifecycle.training.conversations import IGNORED, best_fit, packed, padded, padding_free
from lifecycle.training.scoring import score_only_the_loss

PAD = 0
TWO = [Demonstration("", [5, 6, 7], [0, 1, 1]), Demonstration("", [8, 9], [0, 1])]


def some(lengths=(9, 3, 7, 12, 5, 5, 2)):
    generator = torch.Generator().manual_seed(4)
    rows = []
    for length in lengths:
        ids = torch.randint(1, 50, (length,), generator=generator).tolist()
        mask = (torch.rand(length, generator=generator) < 0.4).int().tolist()
        rows.append(Demonstration("", ids, [0, *mask[1:-1], 1]))
    return rows


def llama(attention):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config)


def gpt2(attention):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=2, n_positions=64, attn_implementation=attention)
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    return GPT2LMHeadModel(config)


def loss_and_gradients(model, inputs):
    score_only_the_loss(model)
    outputs = model(**inputs, fused_lm_head=True)
    loss = -outputs.log_probs.sum() / outputs.label_mask.sum()
    loss.backward()
    return (
        loss.detach(),
        {name: weight.grad for name, weight in model.named_parameters()},
        int(outputs.label_mask.sum()),
    )


def test_a_packed_row_by_hand():
    inputs = packed(TWO, pad_id=PAD, row_tokens=6, additive=False)
    assert inputs["input_ids"].tolist() == [[5, 6, 7, 8, 9]]
    assert inputs["labels"].tolist() == [[IGNORED, 6, 7, IGNORED, 9]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert inputs["attention_mask"][0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    assert padding_free(TWO)["cu_seq_lens_q"].tolist() == [0, 3, 5]
    assert padded(TWO, pad_id=PAD)["labels"].tolist() == [[IGNORED, 6, 7], [IGNORED, 9, IGNORED]]


@pytest.mark.parametrize("network", [llama, gpt2])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_and_padding_free_rows_have_the_loss_and_the_gradients_of_padded_ones(network, attention):
    plain, gradients, supervised = loss_and_gradients(network(attention), padded(some(), pad_id=PAD))
    bins = packed(some(), pad_id=PAD, row_tokens=16, additive=attention == "eager")
    flat = padding_free(some())
    assert len(bins["input_ids"]) < 7
    for model, inputs in ((network(attention), bins), (network(apart.NAME), flat)):
        loss, same, counted = loss_and_gradients(model, inputs)
        assert counted == supervised
        torch.testing.assert_close(loss, plain, atol=1e-5, rtol=0)
        for name, gradient in gradients.items():
            torch.testing.assert_close(same[name], gradient, atol=1e-5, rtol=0, msg=lambda m, name=name: f"{name}: {m}")


def test_without_boundaries_the_loss_is_another_one():
    """What `packed` is for: the same rows under plain causality, positions running on."""
    inputs = packed(some(), pad_id=PAD, row_tokens=16, additive=False)
    right, _, _ = loss_and_gradients(llama("sdpa"), inputs)
    wrong, _, _ = loss_and_gradients(llama("sdpa"), {name: inputs[name] for name in ("input_ids", "labels")})
    assert abs(float(wrong - right)) > 1e-3


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=40))
@settings(max_examples=50)
def test_best_fit_places_every_conversation_once_and_no_row_is_too_long(lengths):
    rows = best_fit(lengths, 20)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= 20 for row in rows)
    used = [sum(lengths[index] for index in row) for row in rows]
    assert all(one + other > 20 for one, other in combinations(used, 2)), "two of them would have fitted into one"


def test_padding_with_the_stop_token_leaves_the_stop_token_in_the_loss():
    stop = 9
    row, longer = Demonstration("", [5, 6, stop], [0, 1, 1]), Demonstration("", [5, 6, 7, 8, stop], [0, 1, 1, 1, 1])
    inputs = padded([row, longer], pad_id=stop)
    assert inputs["input_ids"].tolist() == [[5, 6, stop, stop, stop], [5, 6, 7, 8, stop]]
    assert inputs["labels"].tolist() == [[IGNORED, 6, stop, IGNORED, IGNORED], [IGNORED, 6, 7, 8, stop]]
    same = packed([row, longer], pad_id=stop, row_tokens=9, additive=False)
    assert sorted(same["labels"].flatten().tolist()) == sorted([6, 7, 8, 6, stop, stop, *[IGNORED] * 2])
