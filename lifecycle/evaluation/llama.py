"""A Llama for scoring: the weights and the numbers of transformers' LlamaForCausalLM, called in the same way, faster.

What a prompt shares with all others of its batch is read once; the last layer is computed only where a logit is asked
for; keys and values are written in place; rows are taken in portions that stay in the processor's cache.

# B rows, T tokens, S tokens so far, V vocabulary, D width, H query heads, G key heads, E head size
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import DynamicCache
from transformers.models.llama.modeling_llama import LlamaForCausalLM

# Tokens of one portion on a CPU. Measured on d128 L4, one core of 1 MB: 512 to 1024 are equally fast, 4096 takes 1.4
# times as long. On a GPU everything is one portion.
PORTION = 768
LOGITS, GPU_LOGITS, MIN_SCORED = 2**18, 2**26, 64  # that exist at once: 1 MB in fp32 on a CPU; tokens at least
MIN_SHARED = 8  # a shared prefix of fewer tokens is not worth a pass of its own
ROOM = 32  # tokens a cache grows by
STEADY_ROPES = ("default", "linear", "llama3")  # the angles depend on the position alone
TOLERANCE = 1e-3


class Layer(NamedTuple):
    """Weights of one block; queries, keys and values in one matrix, gate and up in another."""

    norm_in: Tensor
    query_key_value: Tensor
    output: Tensor
    norm_mid: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True)
class Output:
    """As transformers' outputs."""

    logits: Tensor


class Past:
    """Keys and values of what was read, (layer, key or value, B, G, room, E), filled up to `length`."""

    def __init__(self) -> None:
        self.length = 0
        self._kept: Tensor | None = None

    def room(self, like: Tensor, shape: tuple[int, int, int, int, int], more: int) -> Tensor:
        """The storage, with room for `more` tokens."""
        layers, rows, heads, size, least = shape
        wanted = max(self.length + more, least)
        if self._kept is None or self._kept.shape[4] < wanted:
            grown = like.new_empty(layers, 2, rows, heads, wanted + ROOM, size)
            if self._kept is not None:
                grown[:, :, :, :, : self.length] = self._kept[:, :, :, :, : self.length]
            self._kept = grown
        return self._kept

    def batch_select_indices(self, rows: Tensor) -> None:
        """Keep these rows, in this order, each as often as it is named."""
        assert self._kept is not None
        self._kept = self._kept.index_select(2, rows)


class Llama:
    """Called with the arguments of LlamaForCausalLM that evaluation uses; padding is on the left, under a mask."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        self.config, self.device = model.config, model.device
        inner, attention = model.model, model.model.layers[0].self_attn
        self.heads, self.key_heads, self.size = (
            model.config.num_attention_heads,
            model.config.num_key_value_heads,
            attention.head_dim,
        )
        self.embedding, self.head, self.norm = inner.embed_tokens.weight, model.lm_head.weight, inner.norm.weight
        self.layers = [_layer(block) for block in inner.layers]
        positions = torch.arange(model.config.max_position_embeddings, device=self.device)[None]
        cos, sin = inner.rotary_emb(self.norm[:1].float(), positions)
        half = self.size // 2
        self.cos_PE = cos[0]
        # rotate_half(x) * sin is the halves of x swapped, times this.
        self.sin_PE = torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)

    @torch.inference_mode()
    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Past | None = None,
        use_cache: bool = False,
        logits_to_keep: int = 0,
    ) -> Output:
        """Logits (B, T, V) of the last `logits_to_keep` tokens, of all where it is 0."""
        past = past_key_values if past_key_values is not None else Past()
        hidden_BTD = self._read(input_ids, attention_mask, position_ids, past, logits_to_keep or input_ids.shape[1])
        return Output(functional.linear(hidden_BTD, self.head))

    @torch.inference_mode()
    def scores(self, wanted_BK: Tensor, given: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """As `target_scores`; the logits of few tokens exist at a time, and none of those that are not scored."""
        mask_BS, at_BT, past = (given.get(name) for name in ("attention_mask", "position_ids", "past_key_values"))
        hidden_BKD = self._read(given["input_ids"], mask_BS, at_BT, past or Past(), wanted_BK.shape[1])
        scored_BK = wanted_BK >= 0
        hidden_ND, wanted_N = hidden_BKD[scored_BK], wanted_BK[scored_BK]
        size = max(MIN_SCORED, (LOGITS if self.device.type == "cpu" else GPU_LOGITS) // len(self.head))
        found = [
            _scores(functional.linear(hidden_ND[n : n + size], self.head), wanted_N[n : n + size])
            for n in range(0, max(1, len(wanted_N)), size)
        ]
        nats_N, first_N = (torch.cat(part) for part in zip(*found, strict=True))
        return _spread(scored_BK, nats_N, first_N)

    def new_cache(self) -> Past:
        return Past()

    def _read(self, ids_BT: Tensor, mask_BS: Tensor | None, at_BT: Tensor | None, past: Past, keep: int) -> Tensor:
        """What the last layer says about the last `keep` tokens of every row, (B, keep, D); `past` holds the rows."""
        rows, tokens = ids_BT.shape
        start = past.length
        kept = past.room(self.norm, (len(self.layers), rows, self.key_heads, self.size, 0), tokens)
        if at_BT is None:
            at_BT = torch.arange(start, start + tokens, device=self.device).expand(rows, tokens)
        begin = 0
        if start == 0 and mask_BS is not None and rows > 1:
            begin = self._read_shared(ids_BT, mask_BS, kept, tokens - keep)
        if mask_BS is not None and start == 0 and begin == 0 and bool(mask_BS.all()):
            mask_BS = None
        found = [
            self._layers(
                ids_BT[some, begin:],
                at_BT[some, begin:],
                kept[:, :, some],
                start + begin,
                None if mask_BS is None else mask_BS[some].bool(),
                keep,
            )
            for some in self._portions(rows, tokens - begin)
        ]
        past.length = start + tokens
        return torch.cat(found) if len(found) > 1 else found[0]

    def _read_shared(self, ids_BT: Tensor, mask_BT: Tensor, kept: Tensor, most: int) -> int:
        """Read what all rows begin with once, and return how many columns are thereby filled: at most `most`.

        A shorter row begins further right: its part of these columns is padding, then the shared tokens.
        """
        first_B = mask_BT.shape[1] - mask_BT.sum(1)
        tokens = ids_BT.shape[1]
        columns = torch.arange(tokens, device=self.device)
        own_BT = ids_BT.gather(1, (columns + first_B[:, None]).clamp(max=tokens - 1))
        same_T = (own_BT == own_BT[:1]).all(0) & (columns < tokens - int(first_B.max()))
        shared = min(int(same_T.long().cumprod(0).sum()), most)
        if shared < MIN_SHARED:
            return 0
        once = Past()
        storage = once.room(self.norm, (len(self.layers), 1, self.key_heads, self.size, 0), shared)
        row = own_BT[:1, :shared]
        self._layers(row, columns[None, :shared], storage, 0, None, 1)
        source_BT = columns[:shared] - first_B[:, None]
        picked = storage[:, :, 0].index_select(3, source_BT.clamp(min=0).flatten())
        layers, two, heads, _, size = picked.shape
        picked = picked.view(layers, two, heads, len(ids_BT), shared, size).transpose(2, 3)
        kept[:, :, :, :, :shared] = picked * (source_BT >= 0)[None, None, :, None, :, None]
        return shared

    def _layers(
        self, ids_BT: Tensor, at_BT: Tensor, kept: Tensor, start: int, mask_BS: Tensor | None, keep: int
    ) -> Tensor:
        """All layers for these tokens, behind what `kept` holds up to `start`; the last layer for `keep` of them."""
        x_BTD = self.embedding[ids_BT]
        rows, tokens = ids_BT.shape
        end, both = start + tokens, self.heads + self.key_heads
        cos, sin = self.cos_PE[at_BT][:, :, None].to(x_BTD.dtype), self.sin_PE[at_BT][:, :, None].to(x_BTD.dtype)
        allowed = _allowed(mask_BS, tokens, start, self.device)
        for number, layer in enumerate(self.layers):
            y = self._norm(x_BTD, layer.norm_in)
            turned = functional.linear(y, layer.query_key_value).view(rows, tokens, -1, self.size)
            half = self.size // 2
            ahead = turned[:, :, :both]
            swapped = torch.cat([ahead[..., half:], ahead[..., :half]], dim=-1)
            query_key = torch.addcmul(ahead * cos, swapped, sin)
            keys, values = kept[number]
            keys[:, :, start:end] = query_key[:, :, self.heads :].transpose(1, 2)
            values[:, :, start:end] = turned[:, :, both:].transpose(1, 2)
            query, mask = query_key[:, :, : self.heads].transpose(1, 2), allowed
            if number == len(self.layers) - 1 and keep < tokens:
                query, x_BTD = query[:, :, -keep:], x_BTD[:, -keep:]
                if mask is None:
                    mask = _allowed_causal(tokens, start, self.device)
                mask = mask[..., -keep:, :]
            mixed = functional.scaled_dot_product_attention(
                query,
                keys[:, :, :end],
                values[:, :, :end],
                attn_mask=mask,
                is_causal=mask is None and tokens > 1,
                enable_gqa=self.heads != self.key_heads,
            )
            x_BTD = x_BTD + functional.linear(mixed.transpose(1, 2).flatten(2), layer.output)
            gate, up = functional.linear(self._norm(x_BTD, layer.norm_mid), layer.gate_up).chunk(2, dim=-1)
            x_BTD = x_BTD + functional.linear(functional.silu(gate) * up, layer.down)
        return self._norm(x_BTD, self.norm)

    def _norm(self, x_BTD: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(x_BTD, weight.shape, weight, self.config.rms_norm_eps)

    def _portions(self, rows: int, tokens: int) -> Iterator[slice]:
        size = max(1, PORTION // max(1, tokens)) if self.device.type == "cpu" and tokens > 1 else rows
        return (slice(begin, begin + size) for begin in range(0, rows, size))


def faster(model: Any) -> Any:
    """The same network as a `Llama` where it is one whose numbers come out equal, else the model itself."""
    if not _is_plain_llama(model):
        return model
    fast = Llama(model)
    return fast if _equal(model, fast) else model


def new_cache(model: Any) -> Any:
    """An empty key-value cache for `faster(model)`."""
    return model.new_cache() if isinstance(model, Llama) else DynamicCache(config=model.config)


def target_scores(model: Any, wanted_BK: Tensor, **given: Any) -> tuple[Tensor, Tensor]:
    """-ln p of what is wanted behind each of the last K tokens, and whether it is the first choice there, both (B, K).

    Where a negative id is wanted nothing is scored: 0 and False. `given` is what the model is called with.
    """
    if isinstance(model, Llama):
        return model.scores(wanted_BK, given)
    logits_BKV = model(**given, use_cache="past_key_values" in given, logits_to_keep=wanted_BK.shape[1]).logits
    scored_BK = wanted_BK >= 0
    return _spread(scored_BK, *_scores(logits_BKV[scored_BK], wanted_BK[scored_BK]))


def _spread(scored_BK: Tensor, nats_N: Tensor, first_N: Tensor) -> tuple[Tensor, Tensor]:
    """What was scored in its places, 0 and False in all others."""
    nats_BK = nats_N.new_zeros(scored_BK.shape).masked_scatter(scored_BK, nats_N)
    return nats_BK, torch.zeros_like(scored_BK).masked_scatter(scored_BK, first_N)


def _scores(logits_NV: Tensor, wanted_N: Tensor) -> tuple[Tensor, Tensor]:
    """-ln p of one id for each row of logits, in fp32, and whether it is the most probable."""
    logits_NV = logits_NV.float()
    nats_N = functional.cross_entropy(logits_NV, wanted_N, reduction="none")
    # On a CPU finding where the largest logit is takes longer than the rest: only asked where it may be the wanted one.
    first_N = logits_NV.gather(-1, wanted_N[:, None])[:, 0] == logits_NV.amax(-1)
    maybe = first_N.nonzero()[:, 0]
    first_N[maybe] = logits_NV[maybe].argmax(-1) == wanted_N[maybe]
    return nats_N, first_N


def _is_plain_llama(model: Any) -> bool:
    """The architecture that the recipes train, without the options that `Llama` does not know."""
    config = model.config
    return (
        type(model) is LlamaForCausalLM
        and config.hidden_act == "silu"
        and not (config.attention_bias or config.mlp_bias)
        and config.rope_parameters["rope_type"] in STEADY_ROPES
        and all(weight.dtype in (torch.float32, torch.bfloat16) for weight in model.parameters())
    )


@torch.inference_mode()
def _equal(model: Any, fast: Llama) -> bool:
    """Both give the same logits for two rows, one of them padded: a later transformers may compute something else."""
    ids_BT = torch.arange(2 * 12, device=model.device).view(2, 12) % model.config.vocab_size
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[1, :5] = 0
    given = {"input_ids": ids_BT, "attention_mask": mask_BT, "position_ids": (mask_BT.cumsum(1) - 1).clamp(min=0)}
    expected, found = (net(**given, logits_to_keep=3).logits.float() for net in (model, fast))
    finite = torch.isfinite(expected)
    scale = TOLERANCE if model.dtype == torch.float32 else 30 * TOLERANCE
    close = torch.isclose(
        found, expected, rtol=scale, atol=scale * float(expected[finite].abs().max() if finite.any() else 1)
    )
    return bool((close | (~finite & ~torch.isfinite(found))).all())


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


def _allowed(mask_BS: Tensor | None, tokens: int, start: int, device: torch.device) -> Tensor | None:
    """(B or 1, 1, T, S): which earlier token each token may look at; None where plain causal attention does it."""
    if mask_BS is None:
        return None if start == 0 or tokens == 1 else _allowed_causal(tokens, start, device)
    seen = mask_BS[:, None, None, : start + tokens]
    if tokens == 1:
        return seen
    causal = _allowed_causal(tokens, start, device)
    # A padding token may look at itself: attention to nothing at all is not a number.
    own = torch.zeros_like(causal)
    own[..., start:] = torch.eye(tokens, dtype=torch.bool, device=device)
    return seen & causal | own


def _allowed_causal(tokens: int, start: int, device: torch.device) -> Tensor:
    columns = torch.arange(start + tokens, device=device)
    return (columns[None] <= columns[start:, None])[None, None]
