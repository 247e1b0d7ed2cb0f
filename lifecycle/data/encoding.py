"""Documents to ids, whichever encoder: the ids are the same, and so are the batches they come in."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray

from lifecycle.data.bpe import as_text
from lifecycle.data.bpe_fast import Encoded, FastEncoder, Grammar, grammar_of

ENCODE_DOCUMENTS = 512  # per batch: enough to keep every core busy, few enough to report progress
ENCODE_BYTES = 2 << 20  # per batch: a table of pieces is worth its look-ups, and memory stays small

# Below this `tokenizers` is done before numba is imported: measured on 2 cores, 0.5 s against 6 MB/s.
FAST_FROM_BYTES = 16 << 20


class Text(NamedTuple):
    """What is encoded: the line of the corpus it is on, its source, and itself."""

    line: int
    source: str
    text: str


def in_batches(texts: Iterable[Text]) -> Iterator[list[Text]]:
    """The texts in lists that depend on nothing but the texts."""
    batch: list[Text] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text.text)
        if len(batch) == ENCODE_DOCUMENTS or size >= ENCODE_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Encoder:
    """Ids of texts, each behind one BOS. What looks like a special token in a text is text.

    With `fast` unset the fast path is taken from FAST_FROM_BYTES on, where it is proven for this tokenizer.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        *,
        bos_id: int,
        total_bytes: int = 0,
        fast: bool | None = None,
        threads: int | None = None,
    ) -> None:
        self._tokenizer, self._bos_id = as_text(tokenizer), bos_id
        wanted = total_bytes >= FAST_FROM_BYTES if fast is None else fast
        self.grammar: Grammar | None = grammar_of(tokenizer) if wanted else None
        self._threads = threads or len(os.sched_getaffinity(0))
        self._made: list[FastEncoder] = []

    @property
    def documents_left_to_tokenizers(self) -> int:
        """Of those a fast path was chosen for."""
        return sum(encoder.documents_left_to_tokenizers for encoder in self._made)

    def encode(self, batches: Iterable[list[Text]]) -> Iterator[tuple[list[Text], Encoded]]:
        """Each batch with its ids, in order, at most a few batches ahead of who takes them."""
        if self.grammar is None:
            for batch in batches:
                yield batch, self._by_tokenizers([text.text for text in batch])
            return
        idle: SimpleQueue[FastEncoder] = SimpleQueue()
        for _ in range(self._threads):
            encoder = FastEncoder(self._tokenizer, self.grammar, bos_id=self._bos_id)
            self._made.append(encoder)
            idle.put(encoder)

        def one(batch: Sequence[Text]) -> Encoded:
            encoder = idle.get()
            try:
                return encoder.encode([text.text for text in batch])
            finally:
                idle.put(encoder)

        with ThreadPoolExecutor(self._threads, "encode") as pool:
            under_way: deque[tuple[list[Text], Future[Encoded]]] = deque()
            for batch in batches:
                under_way.append((batch, pool.submit(one, batch)))
                if len(under_way) > 2 * self._threads:
                    first, future = under_way.popleft()
                    yield first, future.result()
            for first, future in under_way:
                yield first, future.result()

    def _by_tokenizers(self, texts: Sequence[str]) -> Encoded:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ids: list[int] = []
        lengths: list[int] = []
        for encoding in encodings:
            ids.append(self._bos_id)
            ids.extend(encoding.ids)
            lengths.append(len(encoding) + 1)
        return Encoded(np.array(ids, np.uint32), np.array(lengths, np.int64))


def encode_documents(tokenizer: tokenizers.Tokenizer, texts: Sequence[str], *, bos_id: int) -> Iterator[list[int]]:
    """The ids of each text behind one BOS. What looks like a special token in a text is text."""
    encoder = Encoder(tokenizer, bos_id=bos_id, fast=False)
    for _, encoded in encoder.encode(in_batches(Text(line, "", text) for line, text in enumerate(texts))):
        yield from (part.tolist() for part in np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1]))


def source_numbers(texts: Iterable[Text], known: dict[str, int]) -> NDArray[np.int64]:
    """The number of each text's source; new ones are numbered as they come."""
    return np.array([known.setdefault(text.source, len(known)) for text in texts], np.int64)
