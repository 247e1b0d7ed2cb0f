"""One pass over the bytes of a document and one over its words: every number the quality rules ask for.

The same numbers as the `count` of each family, which is the reference; only big inputs come here (see `batch`).
Memory: about 100 bytes for each word of the longest document.
"""

import numpy as np

from lifecycle.data.filters.characters import Classes
from lifecycle.data.filters.repeats import repeated_lines, repeated_ngrams, repeated_paragraphs
from lifecycle.data.filters.scanning import U64, Bytes, Ints, scan
from lifecycle.data.jit import compiled

# Columns of a document's row, in the order of the fields of each family's counts (see `batch`).
COLUMNS = 36
GOPHER, REPETITION, FINEWEB = 0, 10, 29


@compiled
def count_documents(
    buffer: Bytes,
    offsets: Ints,
    classes: Classes,
    stop_words: U64,
    short_line: int,
    strip_lines: bool,
    rows: Ints,
    with_ngrams: bool,
) -> None:
    """Fill one row of `rows` for each document. Documents do not know of each other."""
    longest = 0
    for document in range(len(offsets) - 1):
        longest = max(longest, offsets[document + 1] - offsets[document])
    most = longest // 2 + 2
    size = 2
    while size < 2 * most:
        size *= 2
    word_hashes, word_ends = np.empty(most, np.uint64), np.empty(most + 1, np.int32)
    line_hashes, line_lengths = np.empty(most, np.uint64), np.empty(most, np.int32)
    keys, stamps = np.empty(size, np.uint64), np.zeros(size, np.int32)
    times, firsts, seen = np.empty(size, np.int32), np.empty(size, np.int32), np.zeros(size, np.int32)
    positions, grams, slots = np.empty(most, np.int32), np.empty(most, np.uint64), np.empty(most, np.int32)
    epoch = 0
    for document in range(len(offsets) - 1):
        lo, hi = offsets[document], offsets[document + 1]
        row = rows[document]
        words, lines, first, last = scan(
            buffer,
            lo,
            hi,
            classes,
            stop_words,
            short_line,
            strip_lines,
            word_hashes,
            word_ends,
            line_hashes,
            line_lengths,
            row,
        )
        epoch += 1
        repeated_lines(buffer, lo, hi, line_hashes, line_lengths, lines, keys, stamps, epoch, row)
        epoch += 1
        repeated_paragraphs(buffer, min(first, last), last, keys, stamps, epoch, size - 1, row)
        if with_ngrams:
            epoch = repeated_ngrams(
                words, word_hashes, word_ends, keys, stamps, times, firsts, seen, positions, grams, slots, epoch, row
            )
        if epoch > 2**31 - 64:
            stamps[:] = 0
            seen[:] = 0
            epoch = 0
