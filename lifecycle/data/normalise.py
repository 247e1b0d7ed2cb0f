"""One way to write the same text: Unicode form, newlines, invisible characters, blanks. Every change is counted."""

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
LINE_END_BLANKS = re.compile(r"[^\S\n]+(?=\n|\Z)")


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
    if rule.newlines:
        text, changes["newlines"] = OTHER_NEWLINES.subn("\n", text)
    if rule.drop_invisible:
        text, changes["invisible"] = INVISIBLE.subn("", text)
    if rule.canonical and not unicodedata.is_normalized("NFC", text):
        text, changes["canonical"] = unicodedata.normalize("NFC", text), 1
    if rule.strip_line_ends:
        text, changes["line_ends"] = LINE_END_BLANKS.subn("", text)
    if rule.max_blank_lines is not None:
        most = rule.max_blank_lines + 1
        text, changes["blank_lines"] = re.subn(rf"\n{{{most + 1},}}", "\n" * most, text)
    return Normalised(text, {kind: count for kind, count in changes.items() if count})
