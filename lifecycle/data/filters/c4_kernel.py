"""C4's line rules over bytes: what `C4Rules.judge_line` says of plain lines; of the others it says to ask there."""

from lifecycle.data.filters.characters import BREAK, SPACE, TERMINAL, UPPER, Classes
from lifecycle.data.filters.scanning import Bytes, Ints, point_at
from lifecycle.data.jit import compiled

KEPT, LONG_WORD, UNENDED, FEW_WORDS, ASK = range(5)
_NEWLINE, _RETURN, _DOT = 10, 13, 46
_QUOTES = (ord('"'), ord("'"), ord("”"))


@compiled
def sentences(buffer: Bytes, lo: int, hi: int, classes: Classes) -> int:
    """`c4.count_sentences` of a line."""
    count, at, fresh, initial = 0, lo, True, False
    while at < hi:
        code, following = point_at(buffer, at)
        flags = classes[code]
        if not fresh and flags & TERMINAL:
            while flags & TERMINAL:
                at = following
                if at >= hi:
                    break
                code, following = point_at(buffer, at)
                flags = classes[code]
            if at < hi and code in _QUOTES:
                at = following
            count, fresh, initial = count + 1, True, False
            continue
        at, fresh = following, False
        if flags & UPPER and at < hi and buffer[at] == _DOT:
            at, initial = at + 1, True
    return max(1, count + initial)


@compiled
def judge_lines(
    buffer: Bytes,
    lo: int,
    hi: int,
    classes: Classes,
    only_ended: bool,
    min_words: int,
    max_word: int,
    ask_all: bool,
    lines: Ints,
) -> tuple[int, int, bool]:
    """Fill start, end and verdict of each line that is not blank; returns how many, the sentences of those kept, and
    whether the text is nothing but lines kept with single newlines between."""
    count, total, whole, at, next_start = 0, 0, True, lo, lo
    while at < hi:
        first, last = hi, lo
        words = word = longest = 0
        ask = ask_all
        while at < hi:  # one line
            start = at
            code, at = point_at(buffer, at)
            flags = classes[code]
            if flags & SPACE:
                word = 0
                if flags & BREAK:
                    if code == _RETURN and at < hi and buffer[at] == _NEWLINE:
                        at += 1
                    break
                continue
            first, last = min(first, start), at
            words += word == 0
            word += 1
            longest = max(longest, word)
            ask |= code == 91 or code == 123  # [ and {
        if words == 0:
            whole = False
            continue
        verdict = KEPT
        end = buffer[last - 1]
        dots = last - first >= 3 and end == _DOT and buffer[last - 2] == _DOT and buffer[last - 3] == _DOT
        if ask:
            verdict = ASK
        elif longest > max_word:
            verdict = LONG_WORD
        elif only_ended and (dots or not (end == 46 or end == 63 or end == 33 or end == 34 or end == 39)):
            verdict = UNENDED
        elif words < min_words:
            verdict = FEW_WORDS
        else:
            total += sentences(buffer, first, last, classes)
        whole &= (
            verdict == KEPT and first == next_start and (at == last or (at == last + 1 and buffer[last] == _NEWLINE))
        )
        next_start = at
        lines[count, 0], lines[count, 1], lines[count, 2] = first, last, verdict
        count += 1
    return count, total, whole and next_start == hi and buffer[hi - 1] != _NEWLINE
