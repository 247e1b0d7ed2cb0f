"""What must hold for every row of a rendered batch, as `chat.parity` asks it of one: bytes compared, all at once.

Two comparisons say most of it. The bytes of a row's ids are the text of its conversation; the bytes of its supervised
ids are what the assistant says, each turn with its stop token. A typed stop token has the same bytes, so stops are
counted too.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from lifecycle.chat.batch import Batch
from lifecycle.chat.parity import check
from lifecycle.chat.render import Rendered, Renderer
from lifecycle.chat.structure import ASSISTANT, Messages
from lifecycle.data.bpe import BYTE_LETTERS

I64 = NDArray[np.int64]

# Of so many rows one is rendered and checked by `chat.parity` itself, prompts before its answers included.
ONE_BY_ONE_EVERY = 1_000


class TokenBytes:
    """The bytes each token of a byte-level vocabulary stands for."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        bytes_of = {letter: byte for byte, letter in BYTE_LETTERS.items()}
        added = {number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()}
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        parts = [b""] * (max(vocabulary.values()) + 1)
        for token, number in vocabulary.items():
            known = number not in added and all(letter in bytes_of for letter in token)
            parts[number] = bytes(bytes_of[letter] for letter in token) if known else added.get(number, "").encode()
        self.lengths = np.array([len(part) for part in parts], np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.pool = np.frombuffer(b"".join(parts), np.uint8)

    @staticmethod
    def are_known(tokenizer: tokenizers.Tokenizer) -> bool:
        """Whether ids stand for bytes by a table: so they do in byte-level vocabularies."""
        return type(tokenizer.decoder).__name__ == "ByteLevel"

    def of(self, ids: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """The bytes of ids, joined."""
        lengths = self.lengths[ids]
        index = np.repeat(self.starts[ids] - (np.cumsum(lengths) - lengths), lengths)
        index += np.arange(len(index))
        found: NDArray[np.uint8] = self.pool[index]
        return found


def check_batch(
    renderer: Renderer, names: Sequence[str], conversations: Sequence[Messages], batch: Batch, known: TokenBytes | None
) -> None:
    """Raise ContractError, by `chat.parity`, for the first row that breaks a law."""
    rendered = [number for number in range(len(conversations)) if number not in batch.refused]
    doubtful = rendered if known is None else _doubtful(renderer, conversations, batch, known, rendered)
    for number in sorted({*doubtful, *rendered[::ONE_BY_ONE_EVERY]}):
        begin, end = batch.bounds[number : number + 2]
        row = Rendered(batch.ids[begin:end].tolist(), batch.mask[begin:end].tolist())
        check(renderer, conversations[number], row, row=names[number])


def _doubtful(
    renderer: Renderer, conversations: Sequence[Messages], batch: Batch, known: TokenBytes, rendered: list[int]
) -> list[int]:
    """The rows whose bytes are not what they should be: `chat.parity` decides about them."""
    answers = [sum(message["role"] == ASSISTANT for message in conversations[number]) for number in rendered]
    learned = batch.mask == 1
    learned_bounds = _ends(learned)[batch.bounds]
    stops = np.diff(_ends(learned & (batch.ids == renderer.protocol.stop_id))[batch.bounds])[rendered]
    covered, tokens = np.diff(learned_bounds)[rendered], np.diff(batch.bounds)[rendered]
    texts, said = ([column[number].encode() for number in rendered] for column in (batch.texts, batch.learned))
    good = (stops == answers) & (covered > 0) & (covered < tokens)
    good &= _same_rows(known, batch.ids, batch.bounds[_rows(rendered)], texts)
    good &= _same_rows(known, batch.ids[learned], learned_bounds[_rows(rendered)], said)
    return [rendered[at] for at in np.flatnonzero(~good).tolist()]


def _same_rows(known: TokenBytes, ids: NDArray[np.uint32], bounds: I64, expected: Sequence[bytes]) -> NDArray[np.bool_]:
    """Whether the ids between two bounds have the bytes expected."""
    found, wanted = known.of(ids), np.frombuffer(b"".join(expected), np.uint8)
    lengths = np.array([len(text) for text in expected], np.int64)
    ends = _ends(known.lengths[ids])[bounds]
    if not np.array_equal(np.diff(ends), lengths):  # rare, and then one by one
        same = [found[a:b].tobytes() == text for (a, b), text in zip(pairwise(ends.tolist()), expected, strict=True)]
        return np.array(same, bool)
    owners = np.searchsorted(ends, np.flatnonzero(found != wanted), side="right") - 1
    same_rows = np.ones(len(expected), bool)
    same_rows[owners] = False
    return same_rows


def _rows(rendered: list[int]) -> I64:
    """Where each of these rows begins among the bounds, and where the last one ends: others have no ids."""
    return np.array([*rendered, rendered[-1] + 1] if rendered else [0], np.int64)


def _ends(values: NDArray[Any]) -> I64:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(values, dtype=np.int64)])
