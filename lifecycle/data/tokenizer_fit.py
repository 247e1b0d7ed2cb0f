"""How well a vocabulary fits a text: bytes per token by source, and the tokens that a model would never learn."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tokenizers
from pydantic import BaseModel, ConfigDict

from lifecycle.data.bpe import BYTE_LETTERS, as_text

RARE = 10  # occurrences; a token seen less often keeps nearly the vector it was initialised with
EXAMPLES = 20
BYTE_OF_LETTER = {letter: byte for byte, letter in BYTE_LETTERS.items()}


class SourceFit(BaseModel):
    """What the documents sampled from one source take. A word is what stands between white space."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    documents: int
    bytes: int
    tokens: int
    bytes_per_token: float
    tokens_per_word: float
    reference_bytes_per_token: float | None
    changed_documents: int
    """Documents that decoding does not give back."""


class Fit(BaseModel):
    """What `fit.json` holds. Special tokens and the 256 bytes are left out of the counts of tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    vocab_size: int
    learned_tokens: int
    sources: dict[str, SourceFit]
    unused_in_sample: int
    """Learned tokens that no sampled document holds; the rest of the corpus may hold some of them."""
    rare_in_sample: int
    """Learned tokens held, but less than RARE times."""
    unreachable: int
    """Learned tokens that no text gives: their own text is encoded otherwise. None of them can ever be trained."""
    partial_utf8: int
    """Learned tokens that are a part of a character, or of several."""
    examples: dict[str, list[str]]


def fit(
    tokenizer: tokenizers.Tokenizer,
    texts: Mapping[str, Sequence[str]],
    *,
    reference: tokenizers.Tokenizer | None = None,
) -> Fit:
    """Measure a tokenizer on the texts of each source.

    Unused, rare and unreachable tokens are where glitch tokens come from: Land and Bartolo 2024, "Fishing for
    Magikarp", https://arxiv.org/abs/2405.05417, sections 2 and 3.
    """
    as_text(tokenizer)
    vocab = tokenizer.get_vocab()
    counts = np.zeros(max(vocab.values()) + 1, np.int64)
    sources = {name: _source_fit(tokenizer, own, reference, counts) for name, own in sorted(texts.items())}
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    learned = {
        number: token for token, number in sorted(vocab.items()) if token not in special and token not in BYTE_OF_LETTER
    }
    groups = {
        "unused_in_sample": [number for number in learned if counts[number] == 0],
        "rare_in_sample": [number for number in learned if 0 < counts[number] < RARE],
        "unreachable": list(_unreachable(tokenizer, learned)),
        "partial_utf8": [number for number, token in learned.items() if _text_of(token) is None],
    }
    return Fit(
        vocab_size=len(vocab),
        learned_tokens=len(learned),
        sources=sources,
        **{name: len(numbers) for name, numbers in groups.items()},
        examples={name: [learned[number] for number in sorted(numbers)[:EXAMPLES]] for name, numbers in groups.items()},
    )


def _source_fit(
    tokenizer: tokenizers.Tokenizer, texts: Sequence[str], reference: tokenizers.Tokenizer | None, counts: np.ndarray
) -> SourceFit:
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    back = tokenizer.decode_batch(ids, skip_special_tokens=False)
    size, tokens = sum(len(text.encode()) for text in texts), sum(map(len, ids))
    counts += np.bincount([token for one in ids for token in one], minlength=len(counts))
    others = None
    if reference is not None:
        encoded = as_text(reference).encode_batch_fast(texts, add_special_tokens=False)
        others = round(size / max(1, sum(len(encoding) for encoding in encoded)), 4)
    return SourceFit(
        documents=len(texts),
        bytes=size,
        tokens=tokens,
        bytes_per_token=round(size / max(1, tokens), 4),
        tokens_per_word=round(tokens / max(1, sum(len(text.split()) for text in texts)), 4),
        reference_bytes_per_token=others,
        changed_documents=sum(text != again for text, again in zip(texts, back, strict=True)),
    )


def _unreachable(tokenizer: tokenizers.Tokenizer, learned: Mapping[int, str]) -> Iterator[int]:
    """Tokens whose text alone is not encoded as them. A part of a character has no text to try."""
    whole = {number: text for number, token in learned.items() if (text := _text_of(token)) is not None}
    encodings = tokenizer.encode_batch_fast(list(whole.values()), add_special_tokens=False)
    for number, encoding in zip(whole, encodings, strict=True):
        if encoding.ids != [number]:
            yield number


def _text_of(token: str) -> str | None:
    """The text of a token written in byte letters, None where its bytes are not whole characters."""
    try:
        return bytes(BYTE_OF_LETTER[letter] for letter in token).decode()
    except (KeyError, UnicodeDecodeError):
        return None
