"""A Llama's forward and backward pass on a CPU: transformers' weights and numbers, fewer passes over memory.

Between two matrix products transformers' eager layers read and write each tensor some ten times; here it is once
(`training.kernels`). Matrices that read the same input are one product, and the part of the scores that nobody sees is
not computed. In fp32 losses are those of transformers to rounding (tested); under bf16 less is rounded on the way.

# B rows, T tokens, N = B*T positions, D width, F feed-forward width, V vocabulary
# H query heads, G key heads, E the size of a head, R = H/G query heads to a key head
"""

import functools
from types import MethodType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import CausalLMOutput

from lifecycle.training import kernels
from lifecycle.training.arrays import array, arrays, share_out


class Rows(NamedTuple):
    """What every layer asks about the rows of a batch."""

    cos: Tensor
    """(B, T, E/2), as `sin`."""
    sin: Tensor
    first: Tensor
    """Where in its row each token's document begins (B, T)."""
    heads: int
    key_heads: int

    @property
    def shape(self) -> tuple[int, int]:
        rows, tokens = self.first.shape
        return rows, tokens


def can_fuse(model: Any) -> bool:
    """Whether `fuse` knows all that this network does: a Llama without biases, eager attention, on a CPU."""
    config = model.config
    return (
        config.model_type == "llama"
        and model.device.type == "cpu"
        and config._attn_implementation == "eager"
        and config.hidden_act == "silu"
        and not config.attention_bias
        and not config.mlp_bias
        and config.attention_dropout == 0
    )


def fuse(model: Any, number: torch.dtype) -> None:
    """Let the network compute its logits as this file does; matrix products take and give `number`, fp32 or bf16."""
    model.forward = MethodType(functools.partial(_logits, number=number), model)


def _logits(
    model: Any, input_ids: Tensor, position_ids: Tensor | None = None, *, number: torch.dtype, use_cache: bool = False
) -> CausalLMOutput:
    """As LlamaForCausalLM.forward answers. Positions that do not go up by one begin another document."""
    assert not use_cache, "it trains and scores; it does not generate"
    inner, epsilon = model.model, np.float32(model.config.rms_norm_eps)
    rows = _rows(model, input_ids, position_ids)
    stream = inner.embed_tokens(input_ids).flatten(0, 1)
    update = torch.zeros_like(stream, dtype=number)
    again = model.is_activation_checkpointing and torch.is_grad_enabled()
    for layer in inner.layers:
        given = (layer, rows, epsilon, stream, update)
        stream, update = checkpoint(_layer, *given, use_reentrant=False) if again else _layer(*given)
    _, out = _AddNorm.apply(stream, update, inner.norm.weight, epsilon)  # type: ignore[no-untyped-call]
    return CausalLMOutput(logits=_linear(out, model.lm_head.weight).view(*input_ids.shape, -1))


def _rows(model: Any, ids_BT: Tensor, positions_BT: Tensor | None) -> Rows:
    along_T = torch.arange(ids_BT.shape[1])
    if positions_BT is None:
        positions_BT = along_T.expand_as(ids_BT)
    begins_BT = torch.ones_like(positions_BT, dtype=torch.bool)
    begins_BT[:, 1:] = positions_BT[:, 1:] != positions_BT[:, :-1] + 1
    angles = model.model.rotary_emb(torch.empty(0), positions_BT)  # of the empty tensor it wants the dtype
    pairs = angles[0].shape[-1] // 2  # both halves of a head turn alike
    config = model.config
    cos, sin = (table[..., :pairs].contiguous() for table in angles)
    return Rows(
        cos,
        sin,
        first=torch.where(begins_BT, along_T, 0).cummax(1).values,
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
    )


def _layer(layer: Any, rows: Rows, epsilon: np.float32, stream_ND: Tensor, update_ND: Tensor) -> tuple[Tensor, Tensor]:
    """A decoder layer: the residual stream, and what is to be added to it. That is done where it is normed next."""
    attention, feed_forward, norms = layer.self_attn, layer.mlp, (layer.input_layernorm, layer.post_attention_layernorm)
    stream_ND, out_ND = _AddNorm.apply(stream_ND, update_ND, norms[0].weight, epsilon)  # type: ignore[no-untyped-call]
    joined = _linear(out_ND, attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
    attended: Tensor = _Attention.apply(joined, rows)  # type: ignore[no-untyped-call]
    update_ND = _linear(attended, attention.o_proj.weight)
    stream_ND, out_ND = _AddNorm.apply(stream_ND, update_ND, norms[1].weight, epsilon)  # type: ignore[no-untyped-call]
    joined = _linear(out_ND, feed_forward.gate_proj.weight, feed_forward.up_proj.weight)
    hidden: Tensor = _Gated.apply(joined)  # type: ignore[no-untyped-call]
    return stream_ND, _linear(hidden, feed_forward.down_proj.weight)


def _linear(x: Tensor, *weights: Tensor) -> Tensor:
    made: Tensor = _Linear.apply(x, *weights)  # type: ignore[no-untyped-call]
    return made


class _Linear(Function):
    """Matrices, one below the other, times the same input. They are fp32, and rounded to the input's numbers."""

    @staticmethod
    def forward(context: Any, x: Tensor, *weights: Tensor) -> Tensor:
        context.lengths = [len(weight) for weight in weights]
        whole = x.new_empty(sum(context.lengths), x.shape[1])
        for part, weight in zip(torch.split(whole, context.lengths), weights, strict=True):
            part.copy_(weight)
        context.save_for_backward(x, whole)
        return x @ whole.t()

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> tuple[Tensor, ...]:
        x, whole = context.saved_tensors
        of_weights = slopes[0].t() @ x
        return slopes[0] @ whole, *(part.float() for part in torch.split(of_weights, context.lengths))


class _AddNorm(Function):
    """The residual stream with its update, in fp32, and the RMSNorm of that."""

    @staticmethod
    def forward(
        context: Any, x_ND: Tensor, update_ND: Tensor, weight_D: Tensor, epsilon: np.float32
    ) -> tuple[Tensor, Tensor]:
        sum_ND, out_ND, inverse_N = torch.empty_like(x_ND), torch.empty_like(update_ND), x_ND.new_empty(len(x_ND))
        given = (*arrays(x_ND, update_ND, weight_D), epsilon, *arrays(sum_ND, out_ND, inverse_N))
        share_out(kernels.add_norm, len(x_ND), *given)
        context.save_for_backward(sum_ND, weight_D, inverse_N)
        return sum_ND, out_ND

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        sum_ND, weight_D, inverse_N = context.saved_tensors
        x_ND, update_ND = torch.empty_like(sum_ND), torch.empty_like(slopes[1])
        weight_KD = weight_D.new_zeros(kernels.BLOCKS, len(weight_D))
        given = arrays(*slopes, sum_ND, weight_D, inverse_N, x_ND, update_ND, weight_KD)
        share_out(kernels.add_norm_back, kernels.BLOCKS, *given)
        return x_ND, update_ND, weight_KD.sum(0), None


class _Attention(Function):
    """From queries, keys and values beside each other (N, (H+2G)*E) to what each token takes from those it sees."""

    @staticmethod
    def forward(context: Any, joined: Tensor, rows: Rows) -> Tensor:
        (B, T), H, G = rows.shape, rows.heads, rows.key_heads
        E = joined.shape[1] // (H + 2 * G)
        queries, keys, values = (joined.new_empty(B, heads, T, E) for heads in (H, G, G))
        given = [_halves(one) for one in (joined.view(B, T, -1, E), queries, keys, values)]
        share_out(kernels.rotate, B, given[0], *arrays(rows.cos, rows.sin), *given[1:])
        # Heads that share keys stand below each other: one product for all of them.
        queries, keys, values = queries.view(B * G, -1, E), keys.view(B * G, T, E), values.view(B * G, T, E)
        weights = torch.bmm(queries, keys.mT)
        first, scale = array(rows.first), np.float32(E**-0.5)
        share_out(kernels.softmax, B, array(weights.view(B, H, T, T)), first, scale)
        context.save_for_backward(queries, keys, values, weights, *rows[:3])
        return torch.bmm(weights, values).view(B, H, T, E).transpose(1, 2).reshape(B * T, H * E)

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        queries, keys, values, weights, cos_BTP, sin_BTP, first_BT = context.saved_tensors
        (B, T), E = first_BT.shape, queries.shape[-1]
        G, H = len(keys) // B, slopes[0].shape[1] // E
        slope = slopes[0].view(B, T, H, E).transpose(1, 2).reshape(B * G, -1, E)
        of_values, of_scores = torch.bmm(weights.mT, slope), torch.bmm(slope, values.mT)
        squares = [array(one.view(B, H, T, T)) for one in (of_scores, weights)]
        share_out(kernels.softmax_back, B, *squares, array(first_BT), np.float32(E**-0.5))
        of_queries, of_keys = torch.bmm(of_scores, keys), torch.bmm(of_scores.mT, queries)
        joined = slope.new_empty(B, T, H + 2 * G, E)
        turned = [_halves(one.view(B, -1, T, E)) for one in (of_queries, of_keys, of_values)]
        share_out(kernels.rotate_back, B, *turned, *arrays(cos_BTP, sin_BTP), _halves(joined))
        return joined.view(B * T, -1), None


class _Gated(Function):
    """SwiGLU of gate and up beside each other (N, 2F)."""

    @staticmethod
    def forward(context: Any, joined: Tensor) -> Tensor:
        context.save_for_backward(joined)
        out_NF = joined.new_empty(len(joined), joined.shape[1] // 2)
        share_out(kernels.gated, len(joined), array(joined.view(len(joined), 2, -1)), array(out_NF))
        return out_NF

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> Tensor:
        (joined,) = context.saved_tensors
        out = torch.empty_like(joined)
        halves = [array(one.view(len(one), 2, -1)) for one in (joined, out)]
        share_out(kernels.gated_back, len(joined), array(slopes[0]), *halves)
        return out


def _halves(tensor: Tensor) -> NDArray[Any]:
    """(.., E) as (.., 2, E/2)."""
    return array(tensor.view(*tensor.shape[:-1], 2, -1))
