"""What lies between the matrix products of a Llama's training step on a CPU, compiled: each one pass over memory.

Importing this module imports numba. Arrays are fp32, or bf16 as the uint16 numpy has for it; what is added up is fp32.
`begin` and `end` are the share of the first axis (of `BLOCKS` for `add_norm_back`): shares are worked on by threads.

# B rows, T tokens, N = B*T positions, D width, F feed-forward width, V vocabulary, K blocks of positions
# H query heads, G key heads, P pairs that rotary positions turn; `2P` is the size of a head, its halves apart
"""

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from lifecycle.data.jit import compiled

Reals = NDArray[np.float32]
Numbers = NDArray[Any]  # Reals, or uint16 that are bf16
Real = Any  # a float32, in numpy's type or in Python's

BLOCKS = 16
"""Partial sums over positions: as many as threads can share out, and always the same, so that their sum is."""
SUMS = frozenset(("reassoc", "contract", "nsz"))
"""Sums may be taken in as many lanes as a register has. What is not a number stays so: the watchdog must see it.

A loop that adds up writes nothing: before one that does the compiler asks where its arrays lie, and takes lanes only
where they are surely apart. The last bit then depended on addresses, in one step of a thousand (found by a resume).
"""
ONE, ZERO = np.float32(1), np.float32(0)


def wide(number: Real) -> Real:
    """A number as fp32."""
    raise NotImplementedError  # there is compiled code alone


def narrow(number: Real, array: Numbers) -> Real:
    """A number as `array` holds them, rounded to the nearest one, of two the even one."""
    raise NotImplementedError


@overload(wide, inline="always")
def _wide(number: Any) -> Any:
    def of_bf16(number: Any) -> Any:
        return np.uint32(np.uint32(number) << np.uint32(16)).view(np.float32)

    def of_fp32(number: Any) -> Any:
        return number

    return of_bf16 if number == types.uint16 else of_fp32


@overload(narrow, inline="always")
def _narrow(number: Any, array: Any) -> Any:
    def to_bf16(number: Any, array: Any) -> Any:
        bits = np.float32(number).view(np.uint32)
        return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

    def to_fp32(number: Any, array: Any) -> Any:
        return np.float32(number)

    return to_bf16 if array.dtype == types.uint16 else to_fp32


@compiled(fastmath=frozenset(("contract",)))
def exp(x: Real) -> Real:
    """e**x to 2 units in the last place, 0 below -87: Cephes' polynomial, which compilers turn into vectors."""
    at_most = np.float32(88) if x > np.float32(88) else x
    at_least = np.float32(-87) if at_most < np.float32(-87) else at_most
    power = np.floor(at_least * np.float32(1.44269504) + np.float32(0.5))
    rest = at_least - power * np.float32(0.693359375)  # log 2 in two parts: the first has few digits
    rest = rest - power * np.float32(-2.12194440e-4)
    sum_ = np.float32(1.9875691500e-4)
    sum_ = sum_ * rest + np.float32(1.3981999507e-3)
    sum_ = sum_ * rest + np.float32(8.3334519073e-3)
    sum_ = sum_ * rest + np.float32(4.1665795894e-2)
    sum_ = sum_ * rest + np.float32(1.6666665459e-1)
    sum_ = sum_ * rest + np.float32(5.0000001201e-1)
    sum_ = sum_ * rest * rest + rest + ONE
    found = sum_ * np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)
    # Zero, and not the smallest number there is: products with that have too few digits, and take many cycles.
    return ZERO if x < np.float32(-87) else found


@compiled(fastmath=frozenset(("nnan", "nsz", "reassoc")))
def largest(row: Numbers) -> Real:
    """The largest number; with one that is not a number among them, any."""
    found = np.float32(-np.inf)
    for at in range(len(row)):
        number = wide(row[at])
        found = number if number > found else found
    return found


@compiled(fastmath=SUMS)
def added(row: Reals) -> Real:
    """The sum of all numbers."""
    found = ZERO
    for at in range(len(row)):
        found += row[at]
    return found


@compiled(fastmath=SUMS)
def add_norm(
    x_ND: Reals,
    update_ND: Numbers,
    weight_D: Reals,
    epsilon: Real,
    sum_ND: Reals,
    out_ND: Numbers,
    inverse_N: Reals,
    begin: int,
    end: int,
) -> None:
    """The residual stream and its update added up, and the RMSNorm of that; one over its root mean square as well."""
    width = x_ND.shape[1]
    for n in range(begin, end):
        for d in range(width):
            sum_ND[n, d] = x_ND[n, d] + wide(update_ND[n, d])
        squares = ZERO
        for d in range(width):
            squares += sum_ND[n, d] * sum_ND[n, d]
        inverse = ONE / np.float32(math.sqrt(squares / np.float32(width) + epsilon))
        inverse_N[n] = inverse
        for d in range(width):
            out_ND[n, d] = narrow(sum_ND[n, d] * inverse * weight_D[d], out_ND)


@compiled(fastmath=SUMS)
def add_norm_back(
    slope_sum_ND: Reals,
    slope_ND: Numbers,
    sum_ND: Reals,
    weight_D: Reals,
    inverse_N: Reals,
    slope_x_ND: Reals,
    slope_update_ND: Numbers,
    slope_weight_KD: Reals,
    begin: int,
    end: int,
) -> None:
    """Slopes of what `add_norm` read, from those of the sum and of its norm; the weight's by block, added."""
    positions, width = sum_ND.shape
    for block in range(begin, end):
        for n in range(positions * block // BLOCKS, positions * (block + 1) // BLOCKS):
            inverse, along = inverse_N[n], ZERO
            for d in range(width):
                along += wide(slope_ND[n, d]) * weight_D[d] * sum_ND[n, d]
            along *= inverse / np.float32(width)
            for d in range(width):
                normal = sum_ND[n, d] * inverse
                slope_weight_KD[block, d] += wide(slope_ND[n, d]) * normal
                slope = slope_sum_ND[n, d] + inverse * (wide(slope_ND[n, d]) * weight_D[d] - normal * along)
                slope_x_ND[n, d] = slope
                slope_update_ND[n, d] = narrow(slope, slope_update_ND)


@compiled(fastmath=SUMS)
def rotate(
    joined: Numbers,
    cos_BTP: Reals,
    sin_BTP: Reals,
    queries: Numbers,
    keys: Numbers,
    values: Numbers,
    begin: int,
    end: int,
) -> None:
    """Queries and keys turned by their positions, and values: from (B, T, H+G+G, 2, P) to (B, H or G, T, 2, P)."""
    _, heads, tokens, _, pairs = queries.shape
    key_heads = keys.shape[1]
    for b in range(begin, end):
        for t in range(tokens):
            for h in range(heads + key_heads):
                for p in range(pairs):
                    x, y = wide(joined[b, t, h, 0, p]), wide(joined[b, t, h, 1, p])
                    cos, sin = cos_BTP[b, t, p], sin_BTP[b, t, p]
                    first, second = narrow(x * cos - y * sin, joined), narrow(y * cos + x * sin, joined)
                    if h < heads:
                        queries[b, h, t, 0, p], queries[b, h, t, 1, p] = first, second
                    else:
                        keys[b, h - heads, t, 0, p], keys[b, h - heads, t, 1, p] = first, second
            for g in range(key_heads):
                values[b, g, t] = joined[b, t, heads + key_heads + g]


@compiled(fastmath=SUMS)
def rotate_back(
    queries: Numbers,
    keys: Numbers,
    values: Numbers,
    cos_BTP: Reals,
    sin_BTP: Reals,
    joined: Numbers,
    begin: int,
    end: int,
) -> None:
    """The slope of what `rotate` read, from those of what it made: turned the other way."""
    _, heads, tokens, _, pairs = queries.shape
    key_heads = keys.shape[1]
    for b in range(begin, end):
        for t in range(tokens):
            for h in range(heads + key_heads):
                turned = queries[b, h, t] if h < heads else keys[b, h - heads, t]
                for p in range(pairs):
                    x, y = wide(turned[0, p]), wide(turned[1, p])
                    cos, sin = cos_BTP[b, t, p], sin_BTP[b, t, p]
                    joined[b, t, h, 0, p] = narrow(x * cos + y * sin, joined)
                    joined[b, t, h, 1, p] = narrow(y * cos - x * sin, joined)
            for g in range(key_heads):
                joined[b, t, heads + key_heads + g] = values[b, g, t]


@compiled(fastmath=SUMS)
def softmax(scores_BHTT: Numbers, first_BT: NDArray[np.int64], scale: Real, begin: int, end: int) -> None:
    """Of the scores times `scale`, in their place: from the first token of a token's document to itself, else 0."""
    _, heads, tokens, _ = scores_BHTT.shape
    row_T = np.empty(tokens, np.float32)
    for b in range(begin, end):
        for h in range(heads):
            for t in range(tokens):
                first = first_BT[b, t]
                seen = scores_BHTT[b, h, t, first : t + 1]
                most = largest(seen) * scale
                for s in range(len(seen)):
                    row_T[s] = exp(wide(seen[s]) * scale - most)
                share = ONE / added(row_T[: len(seen)])
                for s in range(len(seen)):
                    seen[s] = narrow(row_T[s] * share, seen)
                scores_BHTT[b, h, t, :first] = 0
                scores_BHTT[b, h, t, t + 1 :] = 0


@compiled(fastmath=SUMS)
def softmax_back(
    slope_BHTT: Numbers, weights_BHTT: Numbers, first_BT: NDArray[np.int64], scale: Real, begin: int, end: int
) -> None:
    """The slope of the scores in place of that of their softmax."""
    _, heads, tokens, _ = slope_BHTT.shape
    for b in range(begin, end):
        for h in range(heads):
            for t in range(tokens):
                first = first_BT[b, t]
                slope, seen = slope_BHTT[b, h, t, first : t + 1], weights_BHTT[b, h, t, first : t + 1]
                mean = ZERO
                for s in range(len(seen)):
                    mean += wide(slope[s]) * wide(seen[s])
                for s in range(len(seen)):
                    slope[s] = narrow(wide(seen[s]) * (wide(slope[s]) - mean) * scale, slope)
                slope_BHTT[b, h, t, :first] = 0
                slope_BHTT[b, h, t, t + 1 :] = 0


@compiled(fastmath=SUMS)
def gated(joined_N2F: Numbers, out_NF: Numbers, begin: int, end: int) -> None:
    """SwiGLU: silu of the gate, which comes first, times the other half."""
    for n in range(begin, end):
        for f in range(out_NF.shape[1]):
            gate = wide(joined_N2F[n, 0, f])
            out_NF[n, f] = narrow(gate / (ONE + exp(-gate)) * wide(joined_N2F[n, 1, f]), out_NF)


@compiled(fastmath=SUMS)
def gated_back(slope_NF: Numbers, joined_N2F: Numbers, out_N2F: Numbers, begin: int, end: int) -> None:
    """The slope of both halves."""
    for n in range(begin, end):
        for f in range(slope_NF.shape[1]):
            gate, up, slope = wide(joined_N2F[n, 0, f]), wide(joined_N2F[n, 1, f]), wide(slope_NF[n, f])
            opened = ONE / (ONE + exp(-gate))
            out_N2F[n, 0, f] = narrow(slope * up * opened * (ONE + gate * (ONE - opened)), out_N2F)
            out_N2F[n, 1, f] = narrow(slope * gate * opened, out_N2F)


@compiled(fastmath=SUMS)
def cross_entropy(
    logits_NV: Numbers,
    labels_N: NDArray[np.int64],
    weights_N: Reals,
    lift: Real,
    losses_N: Reals,
    begin: int,
    end: int,
) -> None:
    """-log p(label) times its weight; in place of the logits their slope times `lift`, unless that is 0."""
    vocabulary = logits_NV.shape[1]
    row_V = np.empty(vocabulary, np.float32)
    for n in range(begin, end):
        most, label = largest(logits_NV[n]), labels_N[n]
        for v in range(vocabulary):
            row_V[v] = exp(wide(logits_NV[n, v]) - most)
        total = added(row_V)
        losses_N[n] = (np.float32(math.log(total)) + most - wide(logits_NV[n, label])) * weights_N[n]
        if lift:
            row_V[label] -= total
            share = weights_N[n] * lift / total
            for v in range(vocabulary):
                logits_NV[n, v] = narrow(row_V[v] * share, logits_NV)
