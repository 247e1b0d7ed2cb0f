"""Encoding large text: the ids that `tokenizers` gives, proven and not hoped for, at twenty times its speed.

Most of a text is pieces seen before. Our loops cut a text into the pieces its pre-tokenizer would cut and look each up;
a piece not seen before is encoded by `tokenizers` itself, so merges are its own by construction. What is ours is the
cutting, and it is used only where it is known to be the same:
- the pre-tokenizer is, field by field, one of a few whose pattern we have written out;
- which characters are letters, numbers and spaces is asked of the pattern's own regex engine, block by block;
- a document with anything else (a character the engine is ambiguous about, text that a normalizer or an added token
  could touch, a piece above 512 bytes) goes to `tokenizers` whole.
"""

import json
import re
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import Regex
from tokenizers.pre_tokenizers import Digits, Split

from lifecycle.data.bpe import BYTE_LETTERS, PATTERN, as_text

CL100K_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Of GPT-4 and Llama 3 (at most 3 digits) and of Qwen 2 (one digit)."""

BLOCK = 2048  # code points classified together
MAX_ENTRIES = 1 << 20
POOL_BYTES = 1 << 26
ANY_NUMBER = 1 << 30
LONG_S = 0x17F  # without regard to case it is an s, and `'s` a contraction


class Grammar(NamedTuple):
    """A pre-tokenizer we know how to follow."""

    is_gpt2: bool
    most_digits: int
    digits_apart: bool = False
    """Digits are cut off first, so that what stands before one does not see it."""


class Encoded(NamedTuple):
    """The ids of some documents in one array, and how many each has."""

    ids: NDArray[np.uint32]
    lengths: NDArray[np.int64]


def grammar_of(tokenizer: tokenizers.Tokenizer) -> Grammar | None:
    """The grammar its pre-tokenizer follows, or None where the fast path is not proven to give the same ids."""
    spec = json.loads(tokenizer.to_str())
    model = spec["model"]
    if model["type"] != "BPE" or model.get("dropout"):
        return None
    normalizer = spec["normalizer"]
    if normalizer is not None and normalizer.get("type") != "NFC":
        return None
    return _grammar(spec["pre_tokenizer"])


def _grammar(pre: dict[str, Any] | None) -> Grammar | None:
    steps = pre["pretokenizers"] if pre and pre["type"] == "Sequence" else [pre]
    match steps:
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]:
            return Grammar(True, ANY_NUMBER)
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        ]:
            return Grammar(True, 1, digits_apart=True)
        case [
            {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ]:
            return _grammar_of_pattern(pattern)
    return None


def _grammar_of_pattern(pattern: str) -> Grammar | None:
    if pattern == CL100K_PATTERN % "":
        return Grammar(False, 1)
    found = re.search(r"\\p\{N\}\{1,(\d)\}", pattern)
    if found is None:
        return None
    digits = int(found[1])
    if pattern == PATTERN % digits:
        return Grammar(True, digits)
    return Grammar(False, digits) if pattern == CL100K_PATTERN % f"{{1,{digits}}}" else None


class FastEncoder:
    """Ids of many documents, each behind `bos_id`. What looks like a special token in a text is text.

    Holds a table of the pieces seen, at most `MAX_ENTRIES`; a full table is emptied, which costs time and no more.
    Not for two threads at once.
    """

    _entries: int
    _ids: NDArray[np.uint32]
    _id_ends: NDArray[np.int64]

    def __init__(self, tokenizer: tokenizers.Tokenizer, grammar: Grammar, *, bos_id: int) -> None:
        from lifecycle.data import bpe_kernels  # numba takes half a second to import: paid when there is much to encode

        spec = json.loads(tokenizer.to_str())
        self._kernels, self._grammar, self._bos_id = bpe_kernels, grammar, bos_id
        self._whole = as_text(tokenizers.Tokenizer.from_str(tokenizer.to_str()))
        self._bpe = _Merges(spec) if _Merges.can_follow(spec) else _Model(spec)
        self._ascii_only = spec["normalizer"] is not None  # NFC leaves ASCII as it is
        self._added = [token["content"] for token in spec["added_tokens"] if not token["special"]]
        self._classes = np.full(0x110000, bpe_kernels.UNSEEN, np.uint8)
        self._classify(0)
        self.documents_left_to_tokenizers = 0
        self._empty_table()

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The ids of each text behind one BOS."""
        raw = [b"" if self._is_foreign(text) else text.encode() for text in texts]
        ends = np.cumsum([len(part) for part in raw], dtype=np.int64)
        buffer = np.frombuffer(b"".join(raw), np.uint8)
        pieces, counts = np.empty(len(buffer), np.int32), np.zeros(len(texts), np.int64)
        parts: list[Encoded] = []
        done, state = 0, np.array([0, 0, self._entries, 0], np.int64)
        while done < len(texts):
            reason = self._split(buffer, ends, state, pieces, counts)
            following, written, entries, point = map(int, state)
            if reason == self._kernels.NEW_CODE_POINT:
                self._classify(point)
                continue
            if reason == self._kernels.TABLE_FULL and following == done and self._entries == 0:
                counts[done] = self._kernels.FOREIGN  # it alone fills a table
                following, written, entries = done + 1, 0, 0
            self._learn(entries)
            parts.append(self._ids_of(pieces[:written], counts[done:following]))
            if reason == self._kernels.TABLE_FULL:
                self._empty_table()
            done = following
            state[:] = done, 0, self._entries, 0
        ids, lengths = (np.concatenate(column) for column in zip(*parts, strict=True))
        foreign = [i for i, text in enumerate(texts) if counts[i] == self._kernels.FOREIGN or (text and not raw[i])]
        return self._replaced(texts, Encoded(ids, lengths), foreign) if foreign else Encoded(ids, lengths)

    def _is_foreign(self, text: str) -> bool:
        """Whether something may happen to this text before or beside the pre-tokenizer."""
        return (self._ascii_only and not text.isascii()) or any(token in text for token in self._added)

    def _split(
        self,
        buffer: NDArray[np.uint8],
        ends: NDArray[np.int64],
        state: NDArray[np.int64],
        pieces: NDArray[np.int32],
        counts: NDArray[np.int64],
    ) -> int:
        grammar = self._grammar
        return self._kernels.split_documents(
            buffer,
            ends,
            self._kernels.GPT2 if grammar.is_gpt2 else self._kernels.CL100K,
            grammar.most_digits,
            grammar.digits_apart,
            self._classes,
            self._table,
            self._hashes,
            self._starts,
            self._pool,
            state,
            pieces,
            counts,
        )

    def _learn(self, entries: int) -> None:
        """Merge the pieces that came new into the table."""
        if entries == self._entries:
            return
        ids, ends = self._bpe.ids_of(self._pool, self._starts[self._entries : entries + 1])
        self._id_ends = np.concatenate([self._id_ends, len(self._ids) + ends])
        self._ids = np.concatenate([self._ids, ids])
        self._entries = entries

    def _ids_of(self, pieces: NDArray[np.int32], counts: NDArray[np.int64]) -> Encoded:
        lengths = np.empty(len(counts), np.int64)
        out = np.empty(int((self._id_ends[pieces + 1] - self._id_ends[pieces]).sum()) + len(counts), np.uint32)
        self._kernels.write_ids(pieces, counts, self._id_ends, self._ids, self._bos_id, out, lengths)
        return Encoded(out, lengths)

    def _replaced(self, texts: Sequence[str], encoded: Encoded, foreign: Sequence[int]) -> Encoded:
        """`encoded` with these documents as `tokenizers` encodes them."""
        self.documents_left_to_tokenizers += len(foreign)
        parts = np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])
        whole = self._whole.encode_batch_fast([texts[index] for index in foreign], add_special_tokens=False)
        for index, encoding in zip(foreign, whole, strict=True):
            parts[index] = np.array([self._bos_id, *encoding.ids], np.uint32)
        return Encoded(np.concatenate(parts), np.array([len(part) for part in parts], np.int64))

    def _empty_table(self) -> None:
        self._entries = 0
        self._table = np.full(1 << self._kernels.TABLE_BITS, -1, np.int32)
        self._hashes = np.zeros(MAX_ENTRIES, np.uint64)
        self._starts = np.zeros(MAX_ENTRIES + 1, np.int64)
        self._pool = np.zeros(POOL_BYTES, np.uint8)
        self._ids, self._id_ends = np.empty(0, np.uint32), np.zeros(1, np.int64)

    def _classify(self, point: int) -> None:
        """Ask the regex engine for the classes of the block of code points this one is in."""
        kernels = self._kernels
        first = point - point % BLOCK
        points = [p for p in range(first, min(first + BLOCK, 0x110000)) if not 0xD800 <= p < 0xE000]
        text = "".join(map(chr, points))
        numbers = _found(Split(Regex(r"\p{N}+"), "removed"), text)
        kinds = {
            kernels.LETTER: _found(Split(Regex(r"\p{L}+"), "removed"), text),
            kernels.NUMBER: numbers,
            kernels.SPACE: _found(Split(Regex(r"\s+"), "removed"), text),
            kernels.OTHER: _found(Split(Regex(r"[^\s\p{L}\p{N}]+"), "removed"), text),
        }
        proven = np.sum(list(kinds.values()), axis=0) == 1
        if self._grammar.digits_apart:
            proven &= numbers == _digits(text)
        classes = np.full(len(text), kernels.UNPROVEN, np.uint8)
        for kind, members in kinds.items():
            classes[members & proven] = kind
        self._classes[points] = classes
        if not self._grammar.is_gpt2:
            self._classes[LONG_S] = kernels.UNPROVEN


def _found(pre_tokenizer: Split, text: str) -> NDArray[np.bool_]:
    """Which characters a pre-tokenizer that removes what it finds removes."""
    found = np.ones(len(text), np.bool_)
    for _, (begin, end) in pre_tokenizer.pre_tokenize_str(text):
        found[begin:end] = False
    return found


def _digits(text: str) -> NDArray[np.bool_]:
    """Which characters `Digits` cuts off."""
    cut = Digits(individual_digits=True).pre_tokenize_str("".join(f"\ue000{character}" for character in text))
    digits = {piece for piece, _ in cut if piece[0] != "\ue000"}
    return np.array([character in digits for character in text])


class _Merges:
    """BPE from its table of merges."""

    def __init__(self, spec: dict[str, Any]) -> None:
        from lifecycle.data import bpe_merge_kernels

        self._kernels, vocab = bpe_merge_kernels, spec["model"]["vocab"]
        self._byte_ids = np.array([vocab[BYTE_LETTERS[byte]] for byte in range(256)], np.int64)
        # A pair listed twice has its last number, as in `tokenizers`.
        rules = {(vocab[left], vocab[right]): number for number, (left, right) in enumerate(spec["model"]["merges"])}
        self._results = np.array([vocab[left + right] for left, right in spec["model"]["merges"]], np.int64)
        size = 1 << (2 * len(rules) + 2).bit_length()
        self._keys = np.full(size, bpe_merge_kernels.NO_RULE)
        self._numbers = np.full(size, bpe_merge_kernels.NEVER)
        pairs = np.array(list(rules), np.int64).reshape(-1, 2)
        numbers = np.array(list(rules.values()), np.int64)
        bpe_merge_kernels.fill_rules(pairs[:, 0].copy(), pairs[:, 1].copy(), numbers, self._keys, self._numbers)

    @staticmethod
    def can_follow(spec: dict[str, Any]) -> bool:
        """Whether the model does nothing but merge."""
        model = spec["model"]
        plain = not any(
            model.get(name) for name in ("ignore_merges", "continuing_subword_prefix", "end_of_word_suffix", "dropout")
        )
        return plain and all(letter in model["vocab"] for letter in BYTE_LETTERS.values())

    def ids_of(
        self, pool: NDArray[np.uint8], starts: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The ids of all pieces in one array, and where each piece's end."""
        ids, ends = np.empty(int(starts[-1] - starts[0]), np.uint32), np.empty(len(starts) - 1, np.int64)
        written = self._kernels.merge_pieces(
            pool, starts, self._byte_ids, self._keys, self._numbers, self._results, ids, ends
        )
        return ids[:written], ends


class _Model:
    """BPE of `tokenizers`, for a model that does more than merge."""

    def __init__(self, spec: dict[str, Any]) -> None:
        bare = {**spec, "pre_tokenizer": None, "normalizer": None, "post_processor": None, "added_tokens": []}
        self._model = tokenizers.Tokenizer.from_str(json.dumps(bare))

    def ids_of(
        self, pool: NDArray[np.uint8], starts: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The ids of all pieces in one array, and where each piece's end."""
        letters = pool[starts[0] : starts[-1]].tobytes().decode("latin-1").translate(BYTE_LETTERS)
        pieces = [letters[begin:end] for begin, end in pairwise((starts - starts[0]).tolist())]
        ids = [encoding.ids for encoding in self._model.encode_batch_fast(pieces, add_special_tokens=False)]
        return np.fromiter(chain.from_iterable(ids), np.uint32), np.cumsum([len(one) for one in ids])
