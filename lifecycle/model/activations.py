"""What one rank computes at once, in bytes: what autograd keeps of a forward pass, and what each backward step adds.

Written down from the graph transformers builds, tensor by tensor; a test counts the real graph and must find the same
number. What surprises: under autocast queries, keys and values each keep their *own* bf16 copy of one input, weights
are kept in bf16 beside their fp32 originals, and an RMSNorm's backward pass makes six fp32 tensors at once.

# N rows times tokens, D width, K width of keys and values, F feed-forward width, S pairs of tokens over all heads
"""

from dataclasses import dataclass
from typing import Literal

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.gpt2 import Gpt2Config
from lifecycle.model.zero import Precision

FP32 = 4
IDS = 8  # int64


@dataclass(frozen=True)
class Work:
    """What decides the size of a forward pass on one rank."""

    model: ModelConfig | Gpt2Config
    rows: int
    tokens: int
    """Fed per row: one less than a row has, the last one is only a label."""
    precision: Precision
    attention: Literal["eager", "sdpa"]
    partitioned: bool = False
    """ZeRO stage 3: DeepSpeed's own linear layer keeps its input as it came, and no copy of the weight."""
    apart: bool = False
    """Documents of a row do not see each other: positions and masks are a row's own."""

    @property
    def positions(self) -> int:
        return self.rows * self.tokens

    @property
    def number(self) -> int:
        """Bytes of a number that a matrix product takes and gives."""
        return 2 if self.precision == "bf16" else FP32

    @property
    def linear_input(self) -> int:
        """Bytes of a number of a linear layer's input as it is kept, where the input is fp32."""
        return FP32 if self.precision == "fp32" or (self.partitioned and isinstance(self.model, ModelConfig)) else 2

    @property
    def copies_weights(self) -> bool:
        """Does autograd keep a bf16 copy of every matrix?"""
        return self.precision == "bf16" and not (self.partitioned and isinstance(self.model, ModelConfig))


@dataclass(frozen=True)
class Layer:
    """Bytes that one layer's forward pass leaves for its backward pass, in their order."""

    input: int
    """The residual stream it reads: all that is kept when activations are checkpointed."""
    first_norm: int
    attention: int
    second_norm: int
    feed_forward: int
    weights: int
    """bf16 copies of its matrices."""
    working: int
    """The most its backward pass needs beyond what its forward pass left."""
    cast: int
    """A matrix in bf16 for the moment it is multiplied with, where no copy is kept."""

    @property
    def kept(self) -> int:
        return self.input + self.first_norm + self.attention + self.second_norm + self.feed_forward


def layer(work: Work) -> Layer:
    """The bytes of one decoder layer."""
    return _llama(work, work.model) if isinstance(work.model, ModelConfig) else _gpt2(work, work.model)


def _llama(work: Work, model: ModelConfig) -> Layer:
    number, positions, width = work.number, work.positions, model.hidden_size
    stream, narrow = positions * width * FP32, positions * width * number  # ND in fp32, and as products take it
    hidden = positions * model.intermediate_size * number
    norm = stream + positions * FP32  # the input over its root mean square, and one over that root
    shared = work.linear_input == FP32  # one tensor for all linear layers that read it, not a copy each
    inputs = positions * width * work.linear_input
    attention = inputs * (1 if shared else 3) + _attention(work) + narrow  # and what the output matrix reads
    feed_forward = inputs * (1 if shared else 2) + 4 * hidden  # gate, up, silu(gate), and their product
    second = stream + norm
    matrices = model.layer_tensors()
    steps = (
        # The product of gate and up: its two gradients and its own, one of which takes the place of the product.
        2 * hidden + stream + narrow,
        6 * stream - feed_forward,  # the second norm: six fp32 tensors while the square is derived
        _attention_backward(work) + stream + narrow - feed_forward - second,
        6 * stream - feed_forward - second - attention,
    )
    return Layer(
        input=stream,
        first_norm=norm,
        attention=attention,
        second_norm=second,
        feed_forward=feed_forward,
        weights=_copies(work, matrices),
        working=max(steps) + _gradient_copy(work, matrices),
        cast=0 if work.copies_weights else _gradient_copy(work, matrices),
    )


def _gpt2(work: Work, model: Gpt2Config) -> Layer:
    number, positions, width = work.number, work.positions, model.hidden_size
    stream, narrow = positions * width * FP32, positions * width * number
    hidden = positions * model.intermediate_size * number
    norm = 2 * positions * FP32  # mean, and one over the deviation
    attention = narrow + _attention(work) + narrow
    feed_forward = narrow + 2 * hidden  # before and after GELU
    second = stream + norm
    matrices = model.layer_tensors()
    steps = (
        2 * hidden + stream + narrow,
        3 * stream + narrow - feed_forward,
        _attention_backward(work) + stream + 3 * narrow - feed_forward - second,
        3 * stream + narrow - feed_forward - second - attention,
    )
    return Layer(
        input=stream,
        first_norm=norm,
        attention=attention,
        second_norm=second,
        feed_forward=feed_forward,
        weights=_copies(work, matrices),
        working=max(steps) + _gradient_copy(work, matrices),
        cast=0 if work.copies_weights else _gradient_copy(work, matrices),
    )


def _attention(work: Work) -> int:
    """What softmax(q k) v keeps, without the inputs of the matrices around it."""
    model, number = work.model, work.number
    queries = work.positions * model.hidden_size * number
    if work.attention == "sdpa":
        # Where there is a mask, keys and values are repeated for every head, and each layer keeps the mask as numbers.
        keys = queries if work.apart else work.positions * model.kv_heads * model.head_size * number
        mask = work.positions * work.tokens * number if work.apart else 0
        return queries + 2 * keys + mask + work.positions * model.heads * FP32  # and the logarithm of each sum
    pairs = work.positions * work.tokens * model.heads
    # Keys and values are repeated for every head. The softmax is fp32, its product with the values takes a copy.
    return 3 * queries + pairs * (FP32 + (number if number != FP32 else 0))


def _attention_backward(work: Work) -> int:
    """What the backward pass of softmax(q k) v makes at once."""
    queries = work.positions * work.model.hidden_size * work.number
    if work.attention == "sdpa":
        return 4 * queries
    return 2 * work.positions * work.tokens * work.model.heads * FP32 + queries


def _copies(work: Work, tensors: list[int]) -> int:
    return 2 * sum(size for size in tensors if size > work.model.intermediate_size) if work.copies_weights else 0


def _gradient_copy(work: Work, tensors: list[int]) -> int:
    """A matrix's gradient is made in bf16 and stands beside its fp32 copy for a moment."""
    return 2 * max(tensors) if work.precision == "bf16" else 0


@dataclass(frozen=True)
class Head:
    """Bytes around the layers: the embedding's ids, the rotary tables, the last norm, the logits and their loss."""

    tables: int
    """Ids and rotary tables: there to the end of the backward pass."""
    norm: int
    """The last norm, and what the output matrix reads."""
    mask: int
    """Only layers that are computed again keep it: numbers for eager attention, a byte a pair where that is SDPA."""
    weights: int
    logits: int
    """As they come out of the model; the training loop holds them until the next ones exist."""
    loss: int
    """What the loss makes beside them: a chunk in fp32, and its log softmax. The gradient takes the logits' place."""
    working: int
    """Of the last norm's backward pass."""


def positions_at_once(positions: int, vocab_size: int) -> int:
    """How many positions' logits the loss takes together: a sixteenth, or as many as a core's cache holds in fp32."""
    return max(1, 2**18 // vocab_size, positions // 16)


def head(work: Work, vocab_size: int) -> Head:
    """The bytes of what is around the layers."""
    model, positions = work.model, work.positions
    stream, vocabulary = positions * model.hidden_size * FP32, positions * vocab_size
    ids = work.rows * (work.tokens + 1) * IDS
    places = work.positions if work.apart else work.tokens
    if isinstance(model, ModelConfig):
        tables = 2 * places * model.head_size * FP32
        norm, norm_backward = stream + (stream + positions * FP32), 6 * stream
    else:
        tables = places * IDS
        norm, norm_backward = stream + 2 * positions * FP32, 3 * stream
    return Head(
        tables=ids + tables,
        norm=norm + positions * model.hidden_size * work.linear_input,
        mask=positions * work.tokens * (FP32 if work.attention == "eager" else int(work.apart)),
        weights=_copies(work, [vocab_size * model.hidden_size]),
        logits=vocabulary * work.number,
        loss=2 * min(positions, positions_at_once(positions, vocab_size)) * vocab_size * FP32
        + positions * (IDS + FP32),  # labels and their weights
        working=norm_backward,
    )
