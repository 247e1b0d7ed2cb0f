"""A Llama computed in loops of our own is transformers' Llama: losses, gradients, documents apart, the same bits."""

import numpy as np
import pytest
import torch

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.gpt2 import Gpt2Config
from lifecycle.model.network import network
from lifecycle.training import fused, kernels
from lifecycle.training.arrays import array, share_out
from lifecycle.training.batches import Fed
from lifecycle.training.losses import next_token_loss

V, T = 61, 33
SHARED_KEYS = ModelConfig(hidden_size=32, layers=2, heads=4, kv_heads=2, intermediate_size=48, tie_embeddings=False)
WHOLE = torch.arange(T).expand(3, -1)
TWO_DOCUMENTS = torch.cat([torch.arange(14), torch.arange(T - 14)]).expand(3, -1)


def made(number: torch.dtype | None = None, model=SHARED_KEYS):
    """transformers' network, or the same weights computed by ours."""
    ids = {"vocab_size": V, "max_seq_len": T, "bos_id": 0, "pad_id": 1, "stop_id": 2}
    found = network(model, attention="eager", seed=0, **ids)
    if number is not None:
        assert fused.can_fuse(found)
        fused.fuse(found, number)
    return found


def trained(model, positions_BT, number=torch.float32):
    """The loss of a batch, and the gradient of every tensor by name."""
    ids_BT = torch.randint(3, V, (3, T), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16, enabled=number == torch.bfloat16):
        logits_BTV = Fed(ids_BT, positions_BT).logits(model)
    loss = next_token_loss(logits_BTV, ids_BT[:, 1:])
    loss.backward()
    return loss.item(), {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("positions_BT", [None, WHOLE, TWO_DOCUMENTS], ids=["none", "whole rows", "two documents"])
def test_in_fp32_losses_and_gradients_are_those_of_transformers_to_rounding(positions_BT):
    expected, gradients = trained(made(), positions_BT)
    found, ours = trained(made(torch.float32), positions_BT)
    assert found == pytest.approx(expected, abs=1e-6)
    for name, gradient in gradients.items():
        assert (ours[name] - gradient).norm() < 2e-6 * gradient.norm(), name


def test_in_bf16_it_is_nearer_to_fp32_than_transformers_is():
    exact, theirs, ours = (trained(made(*fuse), TWO_DOCUMENTS, number)[1] for fuse, number in (
        ((), torch.float32), ((), torch.bfloat16), ((torch.bfloat16,), torch.bfloat16)
    ))  # fmt: skip
    apart = [sum(float((one[name] - exact[name]).norm()) for name in exact) for one in (theirs, ours)]
    assert 0 < apart[1] < apart[0] * 1.05


def test_layers_that_are_computed_again_give_the_same_bits():
    model = made(torch.float32)
    expected, gradients = trained(model, TWO_DOCUMENTS)
    again = made(torch.float32)
    again.gradient_checkpointing_enable()
    found, recomputed = trained(again, TWO_DOCUMENTS)
    assert found == expected
    assert all(torch.equal(recomputed[name], gradients[name]) for name in gradients)


def test_the_bits_do_not_depend_on_the_number_of_threads():
    before, found = torch.get_num_threads(), []
    x, slope = torch.randn(50, 24), torch.randn(50, 24)
    for threads in (1, 3):
        torch.set_num_threads(threads)
        weight, inverse = torch.full((24,), 0.5), torch.rand(50, generator=torch.Generator().manual_seed(0))
        out = [torch.zeros(50, 24), torch.zeros(50, 24), torch.zeros(kernels.BLOCKS, 24)]
        share_out(kernels.add_norm_back, kernels.BLOCKS, *map(array, (x, slope, x, weight, inverse, *out)))
        found.append(out)
    torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_bits_do_not_depend_on_where_arrays_lie():
    """A compiler that is not sure that two arrays are apart adds one number after the other, not sixteen at once."""
    rows, width = 7, 40
    numbers = np.random.default_rng(0).standard_normal((2, rows, width)).astype(np.float32)
    found = set()
    for gap in range(0, 64, 4):
        memory, at = np.zeros(9 * (rows * width + 64), np.float32), 0
        taken = []
        for length in (rows * width, rows * width, width, rows * width, rows * width, rows):
            taken.append(memory[at : at + length])
            at += length + gap
        x_ND, update_ND, weight_D, sum_ND, out_ND, inverse_N = taken
        x_ND[:], update_ND[:], weight_D[:] = numbers[0].ravel(), numbers[1].ravel(), 1
        shaped = (x_ND.reshape(rows, -1), update_ND.reshape(rows, -1), weight_D, np.float32(1e-5))
        kernels.add_norm(*shaped, sum_ND.reshape(rows, -1), out_ND.reshape(rows, -1), inverse_N, 0, rows)
        found.add((out_ND.tobytes(), inverse_N.tobytes()))
    assert len(found) == 1


@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_so(number):
    """The watchdog sees it in the loss."""
    model = made(number)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[0, 0] = torch.nan
    assert np.isnan(trained(model, None, number)[0])


def test_rounding_to_bf16_is_that_of_torch():
    bits = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint32)
    slope = torch.from_numpy(bits.view(np.float32))
    slope = slope[~slope.isnan()].view(-1, 1)
    nothing, weight, rounded = torch.zeros_like(slope), torch.zeros(1), torch.empty_like(slope).bfloat16()
    out = (torch.empty_like(slope), rounded, torch.zeros(kernels.BLOCKS, 1))
    given = (slope, nothing.bfloat16(), nothing, weight, torch.zeros(len(slope)), *out)
    share_out(kernels.add_norm_back, kernels.BLOCKS, *map(array, given))
    assert torch.equal(rounded, slope.bfloat16())


@pytest.mark.parametrize("x", [-200.0, -87.1, -50.0, -1.0, -1e-8, 0.0, 1e-8, 1.0, 80.0])
def test_exp_is_right_to_two_units_and_zero_far_below(x):
    found = float(kernels.exp(np.float32(x)))
    expected = 0.0 if x < -87 else float(np.exp(np.float64(np.float32(x))))
    assert found == pytest.approx(expected, rel=3e-7, abs=0)


def test_what_it_does_not_know_is_left_to_transformers():
    assert not fused.can_fuse(made(model=Gpt2Config(hidden_size=16, layers=1, heads=2)))
    model = made()
    model.config._attn_implementation = "sdpa"
    assert not fused.can_fuse(model)
