"""What a fastText classifier says of texts, compiled: the sums of `FastText::predict`, each word's taken once.

Importing this module imports numba. A text is the mean of the vectors of its words and of their character n-grams, and
a word's share of that sum is the same wherever it stands: it is kept in a table of fixed size, with the word itself,
so that no two words are ever taken for one and a text's answer depends on nothing but the text.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.fasttext_model import Weights
from lifecycle.data.filters.scanning import Bytes, Ints
from lifecycle.data.jit import compiled

SLOTS = 1 << 13  # they fit the cache of a core: with eight times as many, most looks leave it and nothing is won
LONGEST = 24  # bytes of a word that is kept; of English 2 in 1,000 are longer, and summed anew
BASIS, PRIME, LOW = 2166136261, 16777619, 0xFFFFFFFF
LABEL = np.frombuffer(b"__label__", np.uint8)
END = np.frombuffer(b"</s>", np.uint8)


class Known(NamedTuple):
    """Words met before: their bytes, lengths (0: a free slot), sums of vectors, and how many vectors these are."""

    words: NDArray[np.uint8]
    lengths: NDArray[np.uint8]
    sums: NDArray[np.float32]
    vectors: NDArray[np.int32]


def no_words(width: int) -> Known:
    """An empty table for vectors of a width; of 16 floats: 0.8 MB."""
    return Known(
        np.empty((SLOTS, LONGEST), np.uint8),
        np.zeros(SLOTS, np.uint8),
        np.empty((SLOTS, width), np.float32),
        np.empty(SLOTS, np.int32),
    )


@compiled
def _equal(left: Bytes, lo: int, right: Bytes, start: int, length: int) -> bool:
    same = 0
    while same < length and left[lo + same] == right[start + same]:
        same += 1
    return same == length


@compiled
def _stirred(value: np.uint64, byte: np.uint8) -> np.uint64:
    """One more byte in fastText's hash (see fasttext_model.fnv1a)."""
    signed = np.uint64(byte) | np.uint64(0xFFFFFF00) if byte > 127 else np.uint64(byte)
    return ((value ^ signed) * np.uint64(PRIME)) & np.uint64(LOW)


@compiled
def _add_row(weights: Weights, row: int, total: NDArray[np.float32]) -> None:
    for axis in range(len(total)):
        total[axis] += weights.rows[row, axis]


@compiled
def _ones(bits: np.uint64) -> int:
    """How many bits are set (Knuth, The Art of Computer Programming 4A, section 7.1.3)."""
    bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
    bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled
def _number(weights: Weights, buffer: Bytes, lo: int, hi: int, hashed: np.uint64) -> int:
    """A word's number in the model, -1 if it has none."""
    mask = len(weights.slots) - 1
    at = np.int64(hashed) & mask
    while weights.slots[at] >= 0:
        word = weights.slots[at]
        start, end = weights.word_ends[word], weights.word_ends[word + 1]
        if end - start == hi - lo and _equal(weights.words, start, buffer, lo, hi - lo):
            return int(word)
        at = (at + 1) & mask
    return -1


@compiled
def _sum_word(weights: Weights, buffer: Bytes, lo: int, hi: int, hashed: np.uint64, total: NDArray[np.float32]) -> int:
    """Sets `total` to the sum of a word's vectors: its own and its n-grams'. Returns their number."""
    total[:] = 0
    vectors, words, buckets = 0, len(weights.word_ends) - 1, np.uint64(weights.buckets)
    word = _number(weights, buffer, lo, hi, hashed)
    if word >= 0:
        _add_row(weights, word, total)
        vectors = 1
    # Of <word>: position lo - 1 is the sign before it, hi the one behind.
    for start in range(lo - 1, hi + 1):
        if lo <= start < hi and buffer[start] & 0xC0 == 0x80:
            continue
        state, at = np.uint64(BASIS), start
        for length in range(1, weights.longest + 1):
            if at > hi:
                break
            state = _stirred(state, np.uint8(60) if at < lo else np.uint8(62) if at == hi else buffer[at])
            at += 1
            while lo < at < hi and buffer[at] & 0xC0 == 0x80:
                state = _stirred(state, buffer[at])
                at += 1
            if length < weights.shortest or (length == 1 and (start < lo or at > hi)):
                continue
            bucket = state % buckets
            bits, bit = weights.kept[bucket >> np.uint64(6)], np.uint64(1) << (bucket & np.uint64(63))
            if bits & bit:
                before = weights.kept_before[bucket >> np.uint64(6)] + _ones(bits & (bit - np.uint64(1)))
                _add_row(weights, words + before, total)
                vectors += 1
    return vectors


@compiled
def _add_text(
    weights: Weights,
    buffer: Bytes,
    lo: int,
    hi: int,
    known: Known,
    fresh: NDArray[np.float32],
    hidden: NDArray[np.float64],
) -> int:
    """Adds the vectors of a text's words to `hidden`, and returns their number.

    A word ends at a blank of ASCII or a NUL. One that looks like a label is none, and `</s>` ends the text: fastText
    reads them so.
    """
    vectors, at = 0, lo
    while at < hi:
        if buffer[at] == 32 or 9 <= buffer[at] <= 13 or buffer[at] == 0:
            at += 1
            continue
        start, hashed = at, np.uint64(BASIS)
        while at < hi and not (buffer[at] == 32 or 9 <= buffer[at] <= 13 or buffer[at] == 0):
            hashed = _stirred(hashed, buffer[at])
            at += 1
        length = at - start
        if length == len(END) and _equal(buffer, start, END, 0, length):
            break
        if length >= len(LABEL) and _equal(buffer, start, LABEL, 0, len(LABEL)):
            continue
        if length > LONGEST:
            vectors += _sum_word(weights, buffer, start, at, hashed, fresh)
            for axis in range(len(hidden)):
                hidden[axis] += fresh[axis]
            continue
        slot = np.int64((hashed ^ (hashed >> np.uint64(16))) & np.uint64(SLOTS - 1))
        if known.lengths[slot] != length or not _equal(known.words[slot], 0, buffer, start, length):
            known.vectors[slot] = _sum_word(weights, buffer, start, at, hashed, known.sums[slot])
            known.lengths[slot] = length
            for i in range(length):
                known.words[slot, i] = buffer[start + i]
        vectors += known.vectors[slot]
        for axis in range(len(hidden)):
            hidden[axis] += known.sums[slot, axis]
    return vectors


@compiled
def _log(probability: float) -> float:
    """fastText's `std_log`: never minus infinity, and a little too large."""
    return float(np.log(probability + 1e-5))


@compiled
def _likeliest_leaf(weights: Weights, hidden: NDArray[np.float64], nodes: Ints, scores: NDArray[np.float64]) -> int:
    """The label with the largest product of branches, its logarithm in scores[0]. Branches that cannot win are left."""
    labels = len(weights.left) + 1
    best, label, depth = -np.inf, -1, 1
    nodes[0], scores[0] = 2 * labels - 2, 0.0
    while depth:
        depth -= 1
        node, score = nodes[depth], scores[depth]
        if score <= best:
            continue
        if node < labels:
            best, label = score, node
            continue
        dot = 0.0
        for axis in range(len(hidden)):
            dot += weights.output[node - labels, axis] * hidden[axis]
        right = 1.0 / (1.0 + np.exp(-dot))
        nodes[depth], scores[depth] = weights.right[node - labels], score + _log(right)
        nodes[depth + 1], scores[depth + 1] = weights.left[node - labels], score + _log(1.0 - right)
        depth += 2
    scores[0] = best
    return label


@compiled
def _likeliest_row(weights: Weights, hidden: NDArray[np.float64], scores: NDArray[np.float64]) -> int:
    """The label with the largest share of a softmax, the share's logarithm in scores[0]."""
    labels = len(weights.output)
    label = 0
    for row in range(labels):
        scores[row] = 0.0
        for axis in range(len(hidden)):
            scores[row] += weights.output[row, axis] * hidden[axis]
        if scores[row] > scores[label]:
            label = row
    total = 0.0
    for row in range(labels):
        total += np.exp(scores[row] - scores[label])
    scores[0] = _log(1.0 / total)
    return label


@compiled
def classify(
    buffer: Bytes,
    offsets: Ints,
    weights: Weights,
    known: Known,
    labels: Ints,
    scores: NDArray[np.float64],
) -> None:
    """The likeliest label of each text and its probability, -1 and 0 where the model knows nothing of it."""
    width = weights.rows.shape[1]
    hidden, fresh = np.empty(width, np.float64), np.empty(width, np.float32)
    size = 2 * len(weights.output) + 2
    nodes, open_scores = np.empty(size, np.int64), np.empty(size, np.float64)
    for text in range(len(offsets) - 1):
        hidden[:] = 0
        vectors = _add_text(weights, buffer, offsets[text], offsets[text + 1], known, fresh, hidden)
        if weights.end >= 0:
            vectors += 1
            for axis in range(width):
                hidden[axis] += weights.rows[weights.end, axis]
        labels[text], scores[text] = -1, 0.0
        if vectors == 0:
            continue
        for axis in range(width):
            hidden[axis] /= vectors
        if len(weights.left):
            labels[text] = _likeliest_leaf(weights, hidden, nodes, open_scores)
        else:
            labels[text] = _likeliest_row(weights, hidden, open_scores)
        scores[text] = min(1.0, np.exp(open_scores[0]))
