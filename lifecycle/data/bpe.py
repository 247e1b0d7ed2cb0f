"""Byte-level BPE: any text in, ids out, the same text back."""

from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.trainers import BpeTrainer

# GPT-2's pattern (Radford et al. 2019) but for its numbers, ` ?\p{N}+`: runs of digits of any length become tokens that
# a small vocabulary sees too rarely to learn.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}{1,%d}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _byte_letters() -> dict[int, str]:
    """The printable letter that stands for each byte (Radford et al. 2019, `bytes_to_unicode` of GPT-2's code)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


BYTE_LETTERS = _byte_letters()


def train_bpe(
    texts: Iterable[str], *, vocab_size: int, special_tokens: Sequence[str], max_digits_per_token: int
) -> Tokenizer:
    """A tokenizer of at most `vocab_size` ids: the special tokens at 0.., the 256 bytes, then merges.

    A special token typed in a text stays text. The same texts in the same order give the same merges.
    """
    tokenizer = Tokenizer(BPE())
    split = Split(Regex(PATTERN % max_digits_per_token), behavior="isolated")
    tokenizer.pre_tokenizer = Steps([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=sorted(ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def as_text(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer set to read special tokens in its input as plain text. Not saved with it: set it after loading."""
    tokenizer.encode_special_tokens = True
    return tokenizer
