"""One way to write the same text: Unicode form, newlines, invisible characters, blanks. Every change is counted."""

import operator
import re
import unicodedata
from collections import Counter
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

# The line ends of Unicode's newline guidelines (standard, section 5.8) but for \v and \f, which are controls here.
OTHER_NEWLINES = re.compile("\r\n|[\r\x85\u2028\u2029]")
# C0 and C1 controls but for tab and newline; soft hyphen, zero width space, word joiner, byte order mark. The joiners
# U+200C and U+200D stay: Persian, Hindi and emoji are spelt with them.
INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff]")
# The ones of ASCII, and how the others begin in UTF-8: their absence is seen ten times as fast as the pattern sees it.
CONTROLS = bytes([*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])
STARTS_OF_OTHERS = (b"\xc2", "\u200b".encode(), "\u2060".encode(), "\ufeff".encode())


class Normalisation(BaseModel):
    """What is made one. Compatibility forms (NFKC) are left alone: they turn x² into x2 and ligatures into letters."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    canonical: bool = Field(True, description="Composed characters (NFC; Unicode standard annex 15): one é, not two.")
    newlines: bool = Field(True, description="Every kind of line end becomes a newline.")
    drop_invisible: bool = Field(True, description="Controls, soft hyphens, zero width spaces and byte order marks.")
    strip_line_ends: bool = Field(True, description="Blanks at the end of a line.")
    max_blank_lines: int | None = Field(2, ge=0, description="More empty lines in a row are cut to this; None: kept.")


class Normalised(NamedTuple):
    """The text, and how many changes of each kind made it."""

    text: str
    changes: dict[str, int]


def normalise(text: str, rule: Normalisation) -> Normalised:
    """The text as the rule writes it. Doing it twice changes nothing more."""
    changes: Counter[str] = Counter()
    if rule.newlines and _may_hold_newlines(text):
        text, changes["newlines"] = OTHER_NEWLINES.subn("\n", text)
    if rule.drop_invisible and _may_hold_invisible(text):
        text, changes["invisible"] = INVISIBLE.subn("", text)
    if rule.canonical and not unicodedata.is_normalized("NFC", text):
        text, changes["canonical"] = unicodedata.normalize("NFC", text), 1
    if rule.strip_line_ends:
        lines = text.split("\n")
        stripped = [line.rstrip() for line in lines]
        if stripped != lines:
            text = "\n".join(stripped)
            changes["line_ends"] = sum(map(operator.ne, lines, stripped))
    if rule.max_blank_lines is not None and "\n" * ((most := rule.max_blank_lines + 1) + 1) in text:
        text, changes["blank_lines"] = re.subn(rf"\n{{{most + 1},}}", "\n" * most, text)
    return Normalised(text, {kind: count for kind, count in changes.items() if count})


def _may_hold_newlines(text: str) -> bool:
    return "\r" in text or (not text.isascii() and ("\x85" in text or "\u2028" in text or "\u2029" in text))


def _may_hold_invisible(text: str) -> bool:
    raw = text.encode(errors="replace")
    if len(raw.translate(None, CONTROLS)) < len(raw):
        return True
    return not text.isascii() and any(start in raw for start in STARTS_OF_OTHERS)
