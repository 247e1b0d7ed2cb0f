"""A figure as pages show it: drawn twice, for a desk and for a phone, with the sentence under it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

WIDE, SLIM = 720, 346  # the text column at a desk; a phone of 390 pixels less its margins


@dataclass(frozen=True)
class Picture:
    """One figure at two widths, and the sentence under it."""

    title: str
    wide: Markup
    slim: Markup
    caption: str


def drawn(draw: Callable[..., Markup], caption: str, *, title: str, says: str = "") -> Picture:
    """The figure at both widths. What it `says` to those who cannot see it is its caption, or more."""
    whole = partial(draw, title=title, says=says or caption)
    return Picture(title, whole(width=WIDE), whole(width=SLIM), caption)
