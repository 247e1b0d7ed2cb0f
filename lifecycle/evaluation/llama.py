"""A Llama for scoring: the weights and the numbers of transformers' LlamaForCausalLM, with less work.

What rows begin with is read once, nothing is padded, the last layer and the logits are made only where one is asked
for, keys and values are written in place, and tokens are taken in portions that stay in the processor's cache.

# B rows, N nodes, T tokens, S tokens so far, V vocabulary, D width, H query heads, G key heads, E head size
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from lifecycle.evaluation import scoring
from lifecycle.evaluation.attention import Span, attend, looked_up, plan_of, spans_of, visible
from lifecycle.evaluation.past import Past
from lifecycle.evaluation.prefix_tree import Branch, Ids, Numbers, Tree, portions, tree_of

# Tokens of one portion on a CPU. Measured on d128 L4, one core of 1 MB: 768 to 1536 are equally fast, 384 takes
# 5 % longer. On a GPU everything is one portion.
PORTION = 1024
LOGITS, GPU_LOGITS, MIN_SCORED = 2**18, 2**26, 64  # that exist at once: 1 MB in fp32 on a CPU; tokens at least

# Guesses pay where a step is keys, values and calls more than products: with 9 in 10 right, answers take 0.84 of the
# processor time at d128 L4 and 0.90 at d512 L8. Wider ones and GPUs were not tried.
NARROW = 512

Reals = NDArray[np.float64]


class Layer(NamedTuple):
    """Weights of one block; queries, keys and values in one matrix, gate and up in another."""

    norm_in: Tensor
    query_key_value: Tensor
    output: Tensor
    norm_mid: Tensor
    gate_up: Tensor
    down: Tensor


class Llama:
    """Answers what evaluation asks of a network: the next token behind rows, and how probable given ones are."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        self.config, self.device = model.config, model.device
        self.checks_guesses = self.device.type == "cpu" and model.config.hidden_size <= NARROW
        inner, attention = model.model, model.model.layers[0].self_attn
        self.heads, self.key_heads, self.size = (
            model.config.num_attention_heads,
            model.config.num_key_value_heads,
            attention.head_dim,
        )
        self.embedding: Tensor = inner.embed_tokens.weight
        self.head: Tensor = model.lm_head.weight
        self.norm: Tensor = inner.norm.weight
        self.layers = [_layer(block) for block in inner.layers]
        positions = torch.arange(model.config.max_position_embeddings, device=self.device)[None]
        cos, sin = inner.rotary_emb(self.norm[:1].float(), positions)
        half, dtype = self.size // 2, self.norm.dtype
        self.cos_PE = cos[0].to(dtype)
        # rotate_half(x) * sin is the halves of x swapped, times this.
        self.sin_PE = torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1).to(dtype)

    @torch.inference_mode()
    def read(self, rows: Sequence[Ids], guesses: Sequence[Ids] = ()) -> tuple[Tensor, Past]:
        """The logits behind each row, and behind each token that is guessed to follow it: flat, (N, V) in fp32.

        What is kept of the rows holds the guesses too, but they count only when it is `advance`d.
        """
        guesses = guesses or [()] * len(rows)
        tree = tree_of([[*row, *guess] for row, guess in zip(rows, guesses, strict=True)])
        kept, path_BS = self._storage(len(tree.ids)), tree.paths
        ends = [path_BS[n, len(row) - 1 : len(row) + len(guesses[n])] for n, row in enumerate(rows)]
        hidden_ND = self._hidden(tree, np.concatenate(ends), kept)
        length_B = self._on_device(np.fromiter(map(len, rows), np.int64, len(rows)))
        past = Past(kept, self._on_device(path_BS), length_B)
        return self._logits(hidden_ND), past

    @torch.inference_mode()
    def step(self, past: Past, tokens: Sequence[Ids]) -> Tensor:
        """The logits behind each of one or more further tokens of every row, flat, (N, V) in fp32.

        `past` grows by a row's first token; the others are there, but count only when it is `advance`d.
        """
        size_B = np.fromiter(map(len, tokens), np.int64, len(tokens))
        row_N, inside_N, query_BT = _ragged(size_B)
        at = past.length_B.cpu().numpy()[row_N] + inside_N
        columns = int(at.max()) + 1
        kept, mask, turn = past.room(columns), visible(at[query_BT], columns, self.norm), self._turn(at)
        place_N, even = self._on_device(row_N * kept.shape[2] + at), query_BT.size == len(row_N)
        padded_N, picked_N = self._on_device(query_BT.flatten()), self._on_device(row_N * query_BT.shape[1] + inside_N)
        x_ND = self.embedding[self._on_device(np.fromiter((t for row in tokens for t in row), np.int64, len(row_N)))]
        for number, layer in enumerate(self.layers):
            found = functional.linear(self._norm(x_ND, layer.norm_in), layer.query_key_value)
            query, both = self._turned(found, turn)
            kept[number].flatten(0, 1).index_copy_(0, place_N, both)
            query = (query if even else query.index_select(0, padded_N)).view(*query_BT.shape, self.heads, self.size)
            mixed = looked_up(query, kept[number, :, :columns], mask).flatten(0, 1)
            x_ND = self._rest(x_ND, mixed if even else mixed.index_select(0, picked_N), layer)
        past.length_B = past.length_B + 1
        return self._logits(self._norm(x_ND, self.norm))

    @torch.inference_mode()
    def scores(self, rows: Sequence[Ids], wanted: Sequence[Ids]) -> list[tuple[Reals, Reals]]:
        """For each row, -ln p of what is wanted behind each of its last tokens, and 1 where that is the first choice.

        Where a negative id is wanted nothing is scored: 0 and 0.
        """
        tree = tree_of(rows)
        node_N = np.concatenate(
            [tree.paths[n, tree.lengths[n] - len(w) : tree.lengths[n]] for n, w in enumerate(wanted)]
        )
        target_N = np.concatenate([np.asarray(some, np.int64) for some in wanted])
        known_N = target_N >= 0
        # Rows that share a token often want the same one behind it.
        pairs_N, which_N = np.unique(node_N[known_N] * len(self.head) + target_N[known_N], return_inverse=True)
        hidden_ND = self._hidden(tree, pairs_N // len(self.head))
        target = self._on_device(pairs_N % len(self.head))
        size = max(MIN_SCORED, (LOGITS if self.device.type == "cpu" else GPU_LOGITS) // len(self.head))
        parts = [
            scoring.scores(self._logits(hidden_ND[n : n + size]), target[n : n + size])
            for n in range(0, max(1, len(target)), size)
        ]
        found = np.zeros((2, len(target_N)))
        found[:, known_N] = torch.stack([torch.cat(part).double() for part in zip(*parts, strict=True)]).cpu()[
            :, which_N
        ]
        parts_of = np.split(found, np.cumsum([len(some) for some in wanted])[:-1], axis=1)
        return [(nats_K, first_K) for nats_K, first_K in parts_of]

    def _hidden(self, tree: Tree, node_N: Numbers, kept: Tensor | None = None) -> Tensor:
        """What the last layer says about these nodes, (N, D); `kept` gets the keys and values of all."""
        if kept is None and any(branch.begin for branch in tree.branches):
            kept = self._storage(len(tree.ids))
        wanted, place = np.zeros(len(tree.ids), bool), np.zeros(len(tree.ids), np.int64)
        wanted[node_N] = True
        found, filled = [], 0
        for branches in portions(tree.branches, PORTION if self.device.type == "cpu" else None):
            spans = [span for branch in branches if (span := _wanted_of(branch, wanted))]
            found.append(self._portion(tree, branches, spans, kept))
            for span in spans:
                size = span.end - span.begin
                place[span.first : span.first + size] = filled + np.arange(size)
                filled += size
        return self._norm(torch.cat(found), self.norm)[self._on_device(place[node_N])]

    def _portion(self, tree: Tree, branches: Sequence[Branch], wanted: Sequence[Span], kept: Tensor | None) -> Tensor:
        """All layers for what these branches bring; the last one for the wanted spans alone, one after the other.

        Keys and values go to `kept`; where that is None no other portion asks for them, and all layers share a place.
        """
        begin, end = branches[0].first, branches[-1].last
        base = begin if kept is None else 0
        if kept is None:
            kept = self._storage(end - begin, layers=1).expand(len(self.layers), -1, -1, -1, -1)
        # The first layer's products depend on the id alone, and most ids of a portion occur several times.
        ids, which = np.unique(tree.ids[begin:end], return_inverse=True)
        x_UD, which_N = self.embedding[self._on_device(ids)], self._on_device(which)
        x_ND = x_UD.index_select(0, which_N)
        if begin == end:
            return x_ND
        turn, first = self._turn(tree.at[begin:end]), self.layers[0]
        found = functional.linear(self._norm(x_UD, first.norm_in), first.query_key_value).index_select(0, which_N)
        plan = plan_of(tree, spans_of(branches), base, self.norm)
        for number, layer in enumerate(self.layers):
            if number > 0:
                found = functional.linear(self._norm(x_ND, layer.norm_in), layer.query_key_value)
            query, both = self._turned(found, turn)
            kept[number, begin - base : end - base] = both
            if layer is self.layers[-1]:
                if not wanted:
                    return x_ND[:0]
                asked_N = np.concatenate([np.arange(s.first, s.first + s.end - s.begin) for s in wanted]) - begin
                if len(asked_N) < end - begin:
                    asked = self._on_device(asked_N)
                    query, x_ND, plan = query[asked], x_ND[asked], plan_of(tree, wanted, base, self.norm)
            x_ND = self._rest(x_ND, attend(query, kept[number], plan), layer)
        return x_ND

    def _turned(self, found: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Queries (N, H, E), turned by their positions, and keys, turned as well, beside values (N, 2, G, E)."""
        found = found.view(len(found), -1, self.size)
        half, ahead = self.size // 2, found[:, : self.heads + self.key_heads]
        swapped = torch.cat([ahead[..., half:], ahead[..., :half]], dim=-1)
        ahead.mul_(turn[0]).addcmul_(swapped, turn[1])
        return found[:, : self.heads], found[:, self.heads :].view(-1, 2, self.key_heads, self.size)

    def _turn(self, at_N: Numbers) -> tuple[Tensor, Tensor]:
        """Cosines and sines of positions, both (N, 1, E)."""
        at = self._on_device(at_N)
        return self.cos_PE[at][:, None], self.sin_PE[at][:, None]

    def _rest(self, x_ND: Tensor, mixed_ND: Tensor, layer: Layer) -> Tensor:
        """What follows attention in a layer."""
        x_ND = torch.addmm(x_ND, mixed_ND, layer.output.t())
        gate, up = functional.linear(self._norm(x_ND, layer.norm_mid), layer.gate_up).chunk(2, dim=-1)
        return torch.addmm(x_ND, functional.silu(gate).mul_(up), layer.down.t())

    def _norm(self, x_ND: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(x_ND, weight.shape, weight, self.config.rms_norm_eps)

    def _logits(self, hidden_ND: Tensor) -> Tensor:
        return functional.linear(hidden_ND, self.head).float()

    def _storage(self, nodes: int, *, layers: int | None = None) -> Tensor:
        return self.norm.new_empty(layers or len(self.layers), nodes, 2, self.key_heads, self.size)

    def _on_device(self, numbers: Numbers) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(numbers)).to(self.device)


def _ragged(size_B: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """For flat tokens their row and their number in it; and (B, T) which token is where when rows are padded."""
    row_N = np.repeat(np.arange(len(size_B)), size_B)
    begin_B = np.cumsum(size_B) - size_B
    query_BT = begin_B[:, None] + np.minimum(np.arange(size_B.max()), size_B[:, None] - 1)
    return row_N, np.arange(len(row_N)) - begin_B[row_N], query_BT


def _wanted_of(branch: Branch, wanted: Any) -> Span | None:
    """From the first to the last wanted node that a branch brings."""
    some = np.flatnonzero(wanted[branch.first : branch.last])
    if not len(some):
        return None
    first, last = int(some[0]), int(some[-1])
    return Span(branch.row, branch.begin + first, branch.begin + last + 1, branch.first + first)


def _layer(block: Any) -> Layer:
    attention, mlp = block.self_attn, block.mlp
    return Layer(
        block.input_layernorm.weight,
        _joined(attention.q_proj, attention.k_proj, attention.v_proj),
        attention.o_proj.weight,
        block.post_attention_layernorm.weight,
        _joined(mlp.gate_proj, mlp.up_proj),
        mlp.down_proj.weight,
    )


def _joined(*projections: Any) -> Tensor:
    """Their weights one below the other; the projections become views of it, so nothing is stored twice."""
    joined = torch.cat([projection.weight.data for projection in projections])
    begin = 0
    for projection in projections:
        end = begin + len(projection.weight)
        projection.weight.data = joined[begin:end]
        begin = end
    return joined
