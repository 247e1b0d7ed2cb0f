"""The fast path gives the ids of `tokenizers`, for every pre-tokenizer it follows and whatever the text."""

import random
from itertools import product

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, trainers

from lifecycle.data import bpe_fast, encoding
from lifecycle.data.bpe import PATTERN, as_text
from lifecycle.data.bpe_fast import CL100K_PATTERN, FastEncoder, Grammar, grammar_of
from lifecycle.data.encoding import Encoder, Text, in_batches
from lifecycle.data.jsonl import read_lines
from lifecycle.recipes.tiny import PACK

BOS = 7
SPECIAL = ["<|bos|>", "<|end|>"]


def by_pattern(pattern: str) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


PRE_TOKENIZERS = {
    "ours": (by_pattern(PATTERN % 3), Grammar(True, 3)),
    "ours, one digit": (by_pattern(PATTERN % 1), Grammar(True, 1)),
    "gpt2": (pre_tokenizers.ByteLevel(add_prefix_space=False), Grammar(True, 1 << 30)),
    "smollm": (
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        ),
        Grammar(True, 1, digits_apart=True),
    ),
    "llama3": (by_pattern(CL100K_PATTERN % "{1,3}"), Grammar(False, 3)),
    "qwen2": (by_pattern(CL100K_PATTERN % ""), Grammar(False, 1)),
}
PROSE = [
    "The whale and the sea, 1851; it's the whale's sea again\n\nand THEY'LL   see 12345 ships.\tDon't! naïve 東京"
] * 9


def trained(name: str) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[name][0]
    tokenizer.normalizer = normalizers.NFC() if name == "qwen2" else None
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        PROSE, trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    return tokenizer


@pytest.fixture(scope="module", params=PRE_TOKENIZERS)
def pair(request) -> tuple[tokenizers.Tokenizer, FastEncoder]:
    """A tokenizer, and the fast path for it."""
    tokenizer = trained(request.param)
    assert grammar_of(tokenizer) == PRE_TOKENIZERS[request.param][1]
    return as_text(tokenizer), FastEncoder(tokenizer, PRE_TOKENIZERS[request.param][1], bos_id=BOS)


def check(pair, texts: list[str]) -> None:
    tokenizer, fast = pair
    encoded = fast.encode(texts)
    parts = np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])
    for text, part, slow in zip(
        texts, parts, tokenizer.encode_batch_fast(texts, add_special_tokens=False), strict=True
    ):
        assert part.tolist() == [BOS, *slow.ids], repr(text)


def test_every_short_string_of_what_the_patterns_look_at(pair):
    letters = ["'", " ", "\n", "\t", "s", "L", "é", "7", "٣", ".", "-", "\u00a0", "\r"]
    check(pair, ["".join(text) for length in range(4) for text in product(letters, repeat=length)])


def test_random_strings_of_the_same_and_of_words(pair):
    draw = random.Random(1)
    parts = [
        *"' \n\t\r.,7sé",
        "  ",
        "'ll",
        "'RE",
        "'s",
        "the",
        " whale",
        "1851",
        "東京",
        "\u00a0",
        "ſ",
        "'ſ",
        "K",
        *SPECIAL,
    ]
    parts += [
        "\u0301",
        "🎉",
        "½",
        "²",
        "\u3000",
        "\u200b",
        "\x85",
        "\x1c",
        "\ufeff",
        "\0",
        "\u180e",
        "ﬁ",
        "𝟘",
        "\U0003134f",
    ]
    check(pair, ["".join(draw.choices(parts, k=draw.randrange(1, 30))) for _ in range(3000)])


POINTS = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]


def test_every_character_of_the_common_blocks_with_neighbours(pair):
    check(pair, ["".join(f"a{c} {c}{c}1{c}" for c in POINTS[at : at + 64]) for at in range(0, 0x3200, 64)])


# Those left out have the classes of "ours" and of "llama3", and differ in how many digits make a piece.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ours", "gpt2", "smollm", "llama3"])
def test_every_code_point_there_is(name):
    tokenizer = trained(name)
    tokenizer.model.ignore_merges = False  # three times slower to ask, and nothing to do with code points
    fast = FastEncoder(tokenizer, PRE_TOKENIZERS[name][1], bos_id=BOS)
    check(
        (as_text(tokenizer), fast),
        ["".join(f"{c} {c}" for c in POINTS[at : at + 64]) for at in range(0, len(POINTS), 64)],
    )
    assert fast.documents_left_to_tokenizers < 10


@given(st.lists(st.text(max_size=60), max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_text(pair, texts):
    check(pair, [*texts, "end"])


def test_long_runs_and_the_empty_text(pair):
    runs = [c * n for c in ("a", " ", "\n", "1", "=", "é", "東", " a", "\n ") for n in (255, 511, 512, 513, 3000)]
    check(pair, ["", *runs, *(f"x{run}y" for run in runs), ""])


def test_the_shipped_text(pair):
    rows = [line.row["text"] for line in read_lines(PACK / "corpus/sqlite-manual.jsonl.gz")]
    check(pair, rows[:300])


def test_a_full_table_is_emptied_and_nothing_changes(monkeypatch):
    monkeypatch.setattr(bpe_fast, "MAX_ENTRIES", 40)
    tokenizer = trained("ours")
    fast = FastEncoder(tokenizer, PRE_TOKENIZERS["ours"][1], bos_id=BOS)
    texts = [" ".join(f"w{n}x{k}" for k in range(n % 60)) for n in range(200)]
    check((as_text(tokenizer), fast), texts)
    assert fast.documents_left_to_tokenizers > 0  # those with more than 40 different pieces


def test_what_a_normalizer_or_an_added_token_could_touch_is_left_to_tokenizers():
    tokenizer = trained("qwen2")
    tokenizer.add_tokens([AddedToken("<tool>", special=False)])
    fast = FastEncoder(tokenizer, PRE_TOKENIZERS["qwen2"][1], bos_id=BOS)
    check((as_text(tokenizer), fast), ["plain", "e\u0301", "a <tool> b", "<|end|>"])
    assert fast.documents_left_to_tokenizers == 2


@pytest.mark.parametrize(
    "change",
    [
        {"model": models.BPE(dropout=0.1)},
        {"model": models.WordPiece()},
        {"normalizer": normalizers.Lowercase()},
        {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)},
        {"pre_tokenizer": by_pattern(r"\w+|\W")},
        {"pre_tokenizer": by_pattern(PATTERN.replace("?!", "?=") % 3)},
        {"pre_tokenizer": pre_tokenizers.Whitespace()},
    ],
)
def test_a_tokenizer_that_is_not_known_has_no_fast_path(change):
    tokenizer = trained("ours")
    for name, value in change.items():
        setattr(tokenizer, name, value)
    assert grammar_of(tokenizer) is None


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_the_fast_path_change_no_id_and_no_batch(monkeypatch, threads):
    monkeypatch.setattr(encoding, "ENCODE_DOCUMENTS", 16)
    texts = [Text(n, "s", f"document {n} of {n * n}, don't {'x' * n}") for n in range(100)]
    slow = list(Encoder(trained("ours"), bos_id=BOS, fast=False).encode(in_batches(texts)))
    fast = list(Encoder(trained("ours"), bos_id=BOS, fast=True, threads=threads).encode(in_batches(texts)))
    assert [batch for batch, _ in slow] == [batch for batch, _ in fast]
    for (_, left), (_, right) in zip(slow, fast, strict=True):
        assert left.ids.tolist() == right.ids.tolist()
        assert left.lengths.tolist() == right.lengths.tolist()
