"""The fit of a vocabulary small enough to count by hand."""

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from lifecycle.data.bpe import BYTE_LETTERS
from lifecycle.data.tokenizer_fit import fit


def bpe(*learned: str, merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    vocab = {token: number for number, token in enumerate([*BYTE_LETTERS.values(), *learned])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def test_tokens_never_used_never_reached_and_parts_of_characters_are_told_apart():
    # "ab" is used, "cd" is not; "abc" has no merge that leads to it; "Ã©"'s first byte with a letter is no text.
    tokenizer = bpe("ab", "cd", "abc", "aÃ", merges=[("a", "b"), ("c", "d"), ("a", "Ã")])
    report = fit(tokenizer, {"one": ["abab x"] * 5, "two": ["abc"]})
    assert (report.learned_tokens, report.vocab_size) == (4, 260)
    assert report.examples == {
        "unused_in_sample": ["cd", "abc", "aÃ"],
        "rare_in_sample": [],
        "unreachable": ["abc"],
        "partial_utf8": ["aÃ"],
    }
    one, two = report.sources["one"], report.sources["two"]
    assert (one.documents, one.bytes, one.tokens, one.bytes_per_token) == (5, 30, 20, 1.5)
    assert (one.tokens_per_word, two.bytes_per_token) == (2.0, 1.5)


def test_a_token_seen_a_few_times_is_rare_and_a_reference_is_measured_on_the_same_text():
    report = fit(bpe("ab", merges=[("a", "b")]), {"s": ["abab"]}, reference=bpe(merges=[]))
    assert (report.rare_in_sample, report.unused_in_sample) == (1, 0)
    assert (report.sources["s"].bytes_per_token, report.sources["s"].reference_bytes_per_token) == (2.0, 1.0)
