"""Text from outside, made fit to be shown: a page or a picture must show what an answer holds, and never obey it."""

import unicodedata

REPLACEMENT = "�"
# Joiners that scripts and emoji need; on their own they move and hide nothing.
HARMLESS = frozenset("\u200c\u200d\ufe0e\ufe0f")
MARKS_IN_A_ROW = 4  # more combining marks than any language stacks; hundreds would climb over the lines above


def shown(text: object, limit: int = 600) -> str:
    """`text` cut to `limit` characters, with everything invisible or commanding written out as ⟨U+202E⟩.

    Control characters, direction overrides, lone surrogates and separators become visible; line breaks and tabs stay.
    """
    whole = str(text)
    kept = "".join(map(_visible, _marks_limited(whole[:limit])))
    return kept if len(whole) <= limit else f"{kept} … ({len(whole) - limit:,} more characters)"


def one_line(text: object, limit: int = 120) -> str:
    """The same on a single line, for names, cells and titles."""
    return " ".join(shown(text, limit).split())


def _visible(character: str) -> str:
    if character in "\n\t" or character in HARMLESS:
        return character
    category = unicodedata.category(character)
    if category == "Cs":  # cannot be written as UTF-8 at all
        return REPLACEMENT
    if category == "Cc" and ord(character) < 0x20:
        return chr(0x2400 + ord(character))  # the control pictures: ␀ ␛ ␍
    return f"⟨U+{ord(character):04X}⟩" if category in ("Cc", "Cf", "Cn", "Zl", "Zp") else character


def _marks_limited(text: str) -> str:
    """`text` without the combining marks beyond the few that writing needs."""
    if text.isascii():
        return text
    kept, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= MARKS_IN_A_ROW:
            kept.append(character)
    return "".join(kept)
