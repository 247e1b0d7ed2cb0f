"""A fastText classifier's file as arrays (Joulin et al. 2016, https://arxiv.org/abs/1607.01759 and 1612.03651).

Text classifiers of file version 12, quantised (.ftz) or not (.bin), with a softmax, plain or hierarchical. Who trains
one finds the layout in fastText's `FastText::saveModel`; language_kernels.py asks it what it says of a text.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.errors import InputError

MAGIC, VERSION = 793712314, 12
SUPERVISED = 3
HIERARCHICAL, SOFTMAX = 1, 3
LABEL, END = "__label__", b"</s>"
CENTROIDS = 256  # a code is one byte


class Weights(NamedTuple):
    """What the compiled loops read. D is the width of a vector, W the number of words, L of labels.

    Row w < W of `rows` is a word's own vector; behind them come those of the n-grams that were not pruned away, in the
    order of their buckets. Bit b of `kept` says whether bucket b is one of these, and `kept_before` how many are in the
    64-bit words before it: 400 kB that stay in a cache, where a table of all buckets is 8 MB.
    The W words lie in `words` at `word_ends`; `slots` is a table of their numbers, found by hash. `left` and `right`
    are the children of inner node L + i, whose vector is row i of `output`; both are empty for a plain softmax.
    `end` is the number of the word that ends every text, -1 if there is none; `shortest` and `longest` bound an n-gram.
    """

    rows: NDArray[np.float32]
    kept: NDArray[np.uint64]
    kept_before: NDArray[np.int32]
    buckets: int
    words: NDArray[np.uint8]
    word_ends: NDArray[np.int64]
    slots: NDArray[np.int32]
    output: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    end: int
    shortest: int
    longest: int


class Classifier(NamedTuple):
    """A model: its labels, in the order of its file, and its weights."""

    labels: tuple[str, ...]
    weights: Weights


def read_classifier(path: Path) -> Classifier:
    """The model in a file; InputError where it is no classifier that can be asked the same way."""
    try:
        return _read(_Bytes(path.read_bytes()), path)
    except (struct.error, ValueError, IndexError) as error:
        raise _unusable(path, f"a file that ends or breaks off ({error})") from error


def _unusable(path: Path, found: str) -> InputError:
    return InputError(
        f"expected a fastText classifier of version {VERSION} with n-grams of characters and a softmax in {path}, "
        f"found {found}. Use lid.176.ftz, or train one with -loss hs or softmax and -wordNgrams 1."
    )


class _Bytes:
    """A cursor over a file in memory."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def array(self, kind: type[np.generic], count: int) -> NDArray[np.generic]:
        values = np.frombuffer(self.data, kind, count, self.at)
        self.at += values.nbytes
        return values

    def text(self) -> bytes:
        start, self.at = self.at, self.data.index(b"\0", self.at) + 1
        return self.data[start : self.at - 1]


def _read(file: _Bytes, path: Path) -> Classifier:
    if file.take("2i") != (MAGIC, VERSION):
        raise _unusable(path, f"{file.data[:8]!r} at its start")
    _, _, _, _, _, word_grams, loss, kind, buckets, shortest, longest, _ = file.take("12i")
    file.take("d")
    if (kind, word_grams) != (SUPERVISED, 1) or loss not in (HIERARCHICAL, SOFTMAX) or not 0 < shortest <= longest:
        settings = f"model {kind}, loss {loss}, wordNgrams {word_grams}, minn {shortest}, maxn {longest}"
        raise _unusable(path, settings)
    entries, words, labels, _, pruned = file.take("3i2q")
    names, counts = [], []
    for _ in range(entries):
        names.append(file.text())
        counts.append(file.take("qb")[0])
    kept = own = np.arange(buckets, dtype=np.int32)
    if pruned >= 0:
        pairs = file.array(np.int32, 2 * pruned).astype(np.int32)
        kept, own = pairs[::2], pairs[1::2]
    rows, output = _matrix(file), _matrix(file)
    order = np.argsort(kept)
    rows = np.concatenate([rows[:words], rows[words:][own[order]]])
    bits = np.zeros(-(-buckets // 64) * 64, bool)
    bits[kept] = True
    packed = np.packbits(bits, bitorder="little").view("<u8")
    left, right = _huffman(counts[words:]) if loss == HIERARCHICAL else (np.empty(0, np.int32),) * 2
    ends = np.cumsum([0, *map(len, names[:words])])
    weights = Weights(
        rows,
        packed,
        np.cumsum(np.concatenate([[0], bits.reshape(-1, 64).sum(axis=1)[:-1]])).astype(np.int32),
        buckets,
        np.frombuffer(b"".join(names[:words]), np.uint8),
        ends,
        _slots(names[:words]),
        output,
        left,
        right,
        names.index(END) if END in names else -1,
        shortest,
        longest,
    )
    assert len(names) == words + labels
    return Classifier(tuple(name.decode().removeprefix(LABEL) for name in names[words:]), weights)


def _matrix(file: _Bytes) -> NDArray[np.float32]:
    """The next matrix of the file, its quantised rows spelled out."""
    (quantised,) = file.take("?")
    if not quantised:
        rows, width = file.take("2q")
        return file.array(np.float32, rows * width).reshape(rows, width).astype(np.float32)
    (with_norms,) = file.take("?")
    rows, width, size = file.take("2qi")
    codes = file.array(np.uint8, size)
    values = _decoded(file, codes.reshape(rows, -1))
    if with_norms:
        norms = file.array(np.uint8, rows)
        values *= _decoded(file, norms.reshape(rows, 1))
    return values


def _decoded(file: _Bytes, codes: NDArray[np.generic]) -> NDArray[np.float32]:
    """What the codes stand for, by the centroids that follow: one table of 256 for each part of a vector."""
    width, parts, part, last = file.take("4i")
    centroids = file.array(np.float32, width * CENTROIDS)
    values = np.empty((len(codes), width), np.float32)
    for number in range(parts):
        size = last if number == parts - 1 else part
        start = number * CENTROIDS * part
        table = centroids[start : start + CENTROIDS * size].reshape(CENTROIDS, size)
        values[:, number * part : number * part + size] = table[codes[:, number]]
    return values


def _huffman(counts: list[int]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The children of each inner node of the labels' tree. Labels come most frequent first; ties as fastText's."""
    leaves = len(counts)
    weight = [*counts, *[10**15] * (leaves - 1)]
    children = np.empty((leaves - 1, 2), np.int32)
    leaf, node = leaves - 1, leaves
    for inner in range(leaves, 2 * leaves - 1):
        for side in range(2):
            if leaf >= 0 and weight[leaf] < weight[node]:
                children[inner - leaves, side], leaf = leaf, leaf - 1
            else:
                children[inner - leaves, side], node = node, node + 1
        weight[inner] = sum(weight[child] for child in children[inner - leaves])
    return np.ascontiguousarray(children[:, 0]), np.ascontiguousarray(children[:, 1])


def _slots(words: list[bytes]) -> NDArray[np.int32]:
    """Where to find each word by its hash: a table twice to four times as large, -1 where nothing lies."""
    slots = np.full(1 << (2 * len(words)).bit_length(), -1, np.int32)
    for number, word in enumerate(words):
        at = fnv1a(word) & (len(slots) - 1)
        while slots[at] >= 0:
            at = (at + 1) & (len(slots) - 1)
        slots[at] = number
    return slots


def fnv1a(data: bytes) -> int:
    """fastText's 32-bit hash: FNV-1a over *signed* bytes, a slip of its authors that every model file depends on."""
    value = 2166136261
    for byte in data:
        value = ((value ^ (byte | 0xFFFFFF00 if byte > 127 else byte)) * 16777619) & 0xFFFFFFFF
    return value
