"""Decode of encode is the text, whatever the text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lifecycle.data.bpe import as_text, train_bpe

SPECIAL = ("<|bos|>", "<|pad|>", "<|end|>")
TEXTS = ["the whale and the sea, 1851; the whale is in the sea again"] * 20


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return as_text(train_bpe(TEXTS, vocab_size=300, special_tokens=SPECIAL, max_digits_per_token=3))


@given(text=st.text(max_size=80) | st.lists(st.sampled_from([*SPECIAL, " ", "the", "\r\n", "１2"])).map("".join))
@settings(max_examples=300, deadline=None)
def test_decode_of_encode_is_the_text_and_special_tokens_in_it_stay_text(bpe, text):
    ids = bpe.encode(text, add_special_tokens=False).ids
    assert bpe.decode(ids, skip_special_tokens=False) == text
    assert not set(ids) & set(range(len(SPECIAL)))


def test_special_tokens_come_first_and_then_every_byte(bpe):
    assert [bpe.token_to_id(token) for token in SPECIAL] == [0, 1, 2]
    assert bpe.get_vocab_size() <= 300
    assert all(len(bpe.encode(chr(byte)).ids) == 1 for byte in range(128))


def test_the_same_texts_give_the_same_tokenizer():
    again = [
        train_bpe(iter(TEXTS), vocab_size=300, special_tokens=SPECIAL, max_digits_per_token=3).to_str() for _ in "ab"
    ]
    assert again[0] == again[1]


@pytest.mark.parametrize(("longest", "pieces"), [(1, ["1", "8", "5", "1"]), (3, ["185", "1"])])
def test_no_token_has_more_digits_than_allowed(longest, pieces):
    bpe = train_bpe(["1851"] * 50, vocab_size=300, special_tokens=SPECIAL, max_digits_per_token=longest)
    assert bpe.encode("1851").tokens == pieces
