"""The loops behind fast encoding, compiled: text to pieces known by number, and pieces to a stream of ids.

A piece is what a pre-tokenizer hands to BPE; its merges are made once, when it is first seen.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.jit import compiled

Integer = Any  # a signed 64-bit one, in numpy's type or in Python's

LETTER, NUMBER, SPACE, OTHER, UNPROVEN, UNSEEN = range(6)
"""Classes of code points. UNSEEN: ask the regex engine. UNPROVEN: leave the document to `tokenizers`."""

GPT2, CL100K = range(2)
DONE, TABLE_FULL, NEW_CODE_POINT = range(3)
MAX_PIECE_BYTES = 512  # merging is quadratic here, and `tokenizers` has a heap
TABLE_BITS = 21
FOREIGN = -1


@compiled
def _point(text: NDArray[np.uint8], at: int) -> tuple[Integer, int]:
    """The code point that starts at this byte of valid UTF-8, and where the next one starts."""
    first = text[at]
    if first < 0x80:
        return np.int64(first), at + 1
    if first < 0xE0:
        return (np.int64(first & 0x1F) << 6) | np.int64(text[at + 1] & 0x3F), at + 2
    if first < 0xF0:
        head = (np.int64(first & 0x0F) << 12) | (np.int64(text[at + 1] & 0x3F) << 6)
        return head | np.int64(text[at + 2] & 0x3F), at + 3
    head = (np.int64(first & 0x07) << 18) | (np.int64(text[at + 1] & 0x3F) << 12)
    return head | (np.int64(text[at + 2] & 0x3F) << 6) | np.int64(text[at + 3] & 0x3F), at + 4


@compiled
def _class_at(text: NDArray[np.uint8], at: int, end: int, classes: NDArray[np.uint8]) -> tuple[Integer, int]:
    """The class of the character at this byte and where the next one starts; (-1, end) behind the last."""
    if at >= end:
        return -1, end
    point, following = _point(text, at)
    return np.int64(classes[point]), following


@compiled
def _run(text: NDArray[np.uint8], at: int, end: int, classes: NDArray[np.uint8], kind: int, most: int) -> int:
    """Where a run of at most `most` characters of this class ends."""
    while most > 0 and at < end:
        found, following = _class_at(text, at, end, classes)
        if found != kind:
            break
        at, most = following, most - 1
    return at


@compiled
def _contraction(text: NDArray[np.uint8], at: int, end: int, fold: int) -> int:
    """Where 's 't 're 've 'm 'll 'd end, or `at` if none starts here. `fold` is 0x20 to take capitals too."""
    if at + 1 >= end or text[at] != 0x27:
        return at
    one = text[at + 1] | fold
    if one == 0x73 or one == 0x74 or one == 0x6D or one == 0x64:
        return at + 2
    if at + 2 < end:
        two = text[at + 2] | fold
        if (two == 0x65 and (one == 0x72 or one == 0x76)) or (one == 0x6C and two == 0x6C):
            return at + 3
    return at


@compiled
def _spaces(
    text: NDArray[np.uint8], at: int, end: int, classes: NDArray[np.uint8], digits_apart: bool
) -> tuple[int, int]:
    r"""Where `\s+(?!\S)|\s+` ends from a white-space character, and the end of the whole run."""
    last, here = at, at
    while True:
        found, following = _class_at(text, here, end, classes)
        if found != SPACE:
            break
        last, here = here, following
    # All of it before the end of the text (or of a part that another rule cut off), else all but the last character.
    if found == -1 or (digits_apart and found == NUMBER) or last == at:
        return here, here
    return last, here


@compiled
def _gpt2(
    text: NDArray[np.uint8], at: int, end: int, classes: NDArray[np.uint8], most_digits: int, digits_apart: bool
) -> int:
    r"""The end of the match of `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}{1,D}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`."""
    after = _contraction(text, at, end, 0)
    if after > at:
        return after
    kind, following = _class_at(text, at, end, classes)
    if text[at] == 0x20:
        next_kind, _ = _class_at(text, following, end, classes)
        attaches = next_kind != SPACE and next_kind != -1 and not (digits_apart and next_kind == NUMBER)
        if attaches:
            return _run(text, following, end, classes, next_kind, most_digits if next_kind == NUMBER else end)
    if kind == SPACE:
        return _spaces(text, at, end, classes, digits_apart)[0]
    return _run(text, at, end, classes, kind, most_digits if kind == NUMBER else end)


@compiled
def _cl100k(text: NDArray[np.uint8], at: int, end: int, classes: NDArray[np.uint8], most_digits: int) -> int:
    r"""The end of the match of GPT-4's pattern, alternative by alternative (see `bpe_fast.CL100K_PATTERN`)."""
    after = _contraction(text, at, end, 0x20)
    if after > at:
        return after
    kind, following = _class_at(text, at, end, classes)
    is_break = text[at] == 0x0A or text[at] == 0x0D
    if kind == LETTER:
        return _run(text, at, end, classes, LETTER, end)
    next_kind, _ = _class_at(text, following, end, classes)
    if kind != NUMBER and not is_break and next_kind == LETTER:
        return _run(text, following, end, classes, LETTER, end)
    if kind == NUMBER:
        return _run(text, at, end, classes, NUMBER, most_digits)
    if kind == OTHER or (text[at] == 0x20 and next_kind == OTHER):
        here = _run(text, following, end, classes, OTHER, end)
        while here < end and (text[here] == 0x0A or text[here] == 0x0D):
            here += 1
        return here
    stop, run_end = _spaces(text, at, end, classes, False)
    here = run_end
    while here > at and not (text[here - 1] == 0x0A or text[here - 1] == 0x0D):
        here -= 1
    return here if here > at else stop


@compiled
def _first_not_known(text: NDArray[np.uint8], start: int, end: int, classes: NDArray[np.uint8]) -> int:
    """Where the first character is that has no proven class, or `end`."""
    at = start
    while at < end:
        if text[at] < 0x80:
            at += 1
            continue
        kind, following = _class_at(text, at, end, classes)
        if kind >= UNPROVEN:
            return at
        at = following
    return end


@compiled
def split_documents(
    text: NDArray[np.uint8],
    ends: NDArray[np.int64],
    grammar: int,
    most_digits: int,
    digits_apart: bool,
    classes: NDArray[np.uint8],
    table: NDArray[np.int32],
    hashes: NDArray[np.uint64],
    starts: NDArray[np.int64],
    pool: NDArray[np.uint8],
    state: NDArray[np.int64],
    pieces: NDArray[np.int32],
    counts: NDArray[np.int64],
) -> int:
    """Write the number of every piece of every document, entering new pieces into the table; say why it stopped.

    `state` is [next document, pieces written, entries, code point asked for]; a stop is between documents, and the next
    call goes on there.
    A document that holds an UNPROVEN character or an overlong piece gets the count FOREIGN.
    """
    written, entries = state[1], state[2]
    mask = (1 << TABLE_BITS) - 1
    for document in range(state[0], len(ends)):
        start = ends[document - 1] if document else 0
        end = ends[document]
        first = written
        stopped = DONE
        unknown = _first_not_known(text, start, end, classes)
        if unknown < end:
            point, _ = _point(text, unknown)
            if classes[point] == UNSEEN:
                state[0], state[1], state[2], state[3] = document, written, entries, point
                return NEW_CODE_POINT
            counts[document] = FOREIGN
            continue
        at = start
        while at < end:
            if grammar == GPT2:
                after = _gpt2(text, at, end, classes, most_digits, digits_apart)
            else:
                after = _cl100k(text, at, end, classes, most_digits)
            if after - at > MAX_PIECE_BYTES:
                written = first
                counts[document] = FOREIGN
                break
            key = np.uint64(0xCBF29CE484222325)
            for index in range(at, after):
                key = (key ^ np.uint64(text[index])) * np.uint64(0x100000001B3)  # FNV-1a
            key ^= key >> np.uint64(32)
            slot = np.int64(key & np.uint64(mask))
            while True:
                entry = table[slot]
                if entry < 0:
                    if entries >= len(hashes) or starts[entries] + (after - at) > len(pool):
                        stopped = TABLE_FULL
                        break
                    entry = entries
                    table[slot] = entry
                    hashes[entry] = key
                    begin = starts[entry]
                    for index in range(at, after):
                        pool[begin + index - at] = text[index]
                    starts[entry + 1] = begin + after - at
                    entries += 1
                    break
                if hashes[entry] == key and starts[entry + 1] - starts[entry] == after - at:
                    begin, same = starts[entry], True
                    for index in range(at, after):
                        if pool[begin + index - at] != text[index]:
                            same = False
                            break
                    if same:
                        break
                slot = (slot + 1) & mask
            if stopped == TABLE_FULL:
                state[0], state[1], state[2] = document, first, entries
                return TABLE_FULL
            pieces[written] = entry
            written += 1
            at = after
        if counts[document] != FOREIGN:
            counts[document] = written - first
    state[0], state[1], state[2] = len(ends), written, entries
    return DONE


@compiled
def write_ids(
    pieces: NDArray[np.int32],
    counts: NDArray[np.int64],
    id_starts: NDArray[np.int64],
    ids: NDArray[np.uint32],
    first_id: int,
    out: NDArray[np.uint32],
    lengths: NDArray[np.int64],
) -> int:
    """Write `first_id` and then the ids of each document's pieces, count them, and return how many in all."""
    written, piece = 0, 0
    for document in range(len(counts)):
        begin = written
        out[written] = first_id
        written += 1
        for _ in range(max(counts[document], 0)):
            entry = pieces[piece]
            piece += 1
            for index in range(id_starts[entry], id_starts[entry + 1]):
                out[written] = ids[index]
                written += 1
        lengths[document] = written - begin
    return written
