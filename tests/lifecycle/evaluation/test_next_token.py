import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from lifecycle.evaluation.faster import faster
from lifecycle.evaluation.next_token import batches_of, log_probabilities, windows


@given(st.integers(1, 60), st.integers(2, 20), st.integers(0, 19))
def test_every_token_behind_bos_is_predicted_exactly_once(length, max_seq_len, context):
    ids = list(range(length + 1))
    context = min(context, max_seq_len - 1)
    predicted = []
    for window in windows(7, ids, max_seq_len=max_seq_len, context_tokens=context):
        assert len(window.inputs) <= max_seq_len
        assert list(window.targets) == [token + 1 for token in window.inputs]
        predicted += window.targets[window.context :]
    assert predicted == ids[1:]


def test_windows_by_hand():
    cut = list(windows(0, [0, 1, 2, 3, 4, 5], max_seq_len=3, context_tokens=1))
    assert [(list(w.inputs), w.context) for w in cut] == [([0, 1, 2], 0), ([2, 3, 4], 1)]


def bits_of(model, documents, **settings):
    found = [0.0] * len(documents)
    for batch in batches_of(model, documents, max_seq_len=64, **settings):
        for window, value in zip(batch, log_probabilities(model, batch), strict=True):
            found[window.document] -= value / math.log(2)
    return found


@pytest.fixture
def model(base):
    return AutoModelForCausalLM.from_pretrained(base.path).eval()


@pytest.fixture(params=[lambda model: model, faster], ids=["transformers", "ours"])
def network(model, request):
    return request.param(model)


def test_bits_are_those_of_a_plain_forward_pass(model, network):
    draw = torch.Generator().manual_seed(0)
    documents = [[0, *torch.randint(6, 200, (n,), generator=draw).tolist()] for n in (3, 40, 100, 1, 64)]
    expected = []
    with torch.inference_mode():
        for ids in documents:
            total = 0.0
            for start in range(0, len(ids) - 1, 64):
                piece = torch.tensor([ids[start : start + 65]])
                logp = model(piece[:, :-1]).logits.double().log_softmax(-1)
                total -= logp.gather(-1, piece[:, 1:, None]).sum().item() / torch.log(torch.tensor(2.0)).item()
            expected.append(total)
    for batch in (1, 3, 64):
        assert bits_of(network, documents, context_tokens=0, batch=batch) == pytest.approx(expected, rel=1e-5)


def test_more_context_predicts_the_same_tokens(network):
    ids = [0, *range(6, 206)]
    plain, shown_more = (bits_of(network, [ids], context_tokens=context, batch=4)[0] for context in (0, 32))
    assert plain != shown_more  # tokens 65 to 96 see more of what came before
    assert plain == pytest.approx(shown_more, rel=0.1)


def test_a_weight_that_is_no_number_is_seen(model, network):
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    assert bits_of(network, [[0, 6, 7]], context_tokens=0, batch=4) != bits_of(
        network, [[0, 6, 7]], context_tokens=0, batch=4
    )
