"""What pictures are made of: a canvas that escapes, scales, ticks, marks. Which pictures there are is in `figures`.

Colours are CSS variables of the page with a fallback, so that a picture follows the page into dark mode and also stands
alone. Blue and orange are told apart by every kind of colour blindness (Okabe and Ito 2008), and each tone has its own
shape as well: nothing is said by colour alone.
"""

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from markupsafe import Markup, escape

from lifecycle.report.text import one_line

Tone = Literal["main", "other", "good", "bad", "open"]
"""What a mark stands for: the candidate, what it is compared with, shown to be fine, shown to be harm, not settled."""

COLOURS: Mapping[str, str] = {
    "main": "var(--main, #0b62a8)",
    "other": "var(--other, #6f7780)",
    "good": "var(--good, #0b62a8)",
    "bad": "var(--bad, #b84400)",
    "open": "var(--open, #8a6d00)",
    "ink": "var(--ink, #16191d)",
    "quiet": "var(--quiet, #565e68)",
    "rule": "var(--rule, #d9dce1)",
    "paper": "var(--paper, #ffffff)",
}
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', sans-serif"
HUGE = 1e12  # beyond it a position is no longer a number of pixels
TEXT = 12.5  # in the picture's own units, which are CSS pixels where it is shown at its natural width


@dataclass(frozen=True)
class Axis:
    """What is measured along one side, how its numbers are written, and where it must begin and end."""

    label: str = ""
    show: Callable[[float], str] = "{:g}".format
    low: float | None = None
    high: float | None = None

    def range(self, values: Sequence[float]) -> tuple[float, float]:
        """From the lowest to the highest value with a little air, or as far as was asked for."""
        finite = [max(-HUGE, min(HUGE, value)) for value in values if math.isfinite(value)] or [0.0]
        low = min(finite) if self.low is None else self.low
        high = max(finite) if self.high is None else self.high
        if high - low < 1e-9 * max(1.0, abs(low), abs(high)):  # one value, or too near to be told apart
            half = 0.5 * max(1.0, 1e-3 * abs(low))
            low, high = low - half, high + half
        air = 0.04 * (high - low)
        return (low - air if self.low is None else low, high + air if self.high is None else high)


@dataclass(frozen=True)
class Scale:
    """Values to positions."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value lies; one beyond the scale lies at its end."""
        share = (min(self.high, max(self.low, value)) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int) -> list[float]:
        """Round values, about so many: steps of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / max(1, about)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


class Canvas:
    """Collects the parts of one picture. Whatever text comes in, only text comes out."""

    def __init__(self, width: float) -> None:
        self.width = width
        self._parts: list[Markup] = []

    def add(self, name: str, content: object = "", **attributes: object) -> None:
        self._parts.append(_element(name, content, **attributes))

    def text(self, x: float, y: float, text: str, *, tone: str = "ink", size: float = TEXT, **more: object) -> None:
        self.add("text", one_line(text), x=x, y=y, fill=COLOURS[tone], font_size=size, **more)

    def line(self, x1: float, y1: float, x2: float, y2: float, *, tone: str = "rule", **more: object) -> None:
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=COLOURS[tone], **more)

    def rect(
        self, x: float, y: float, width: float, height: float, *, tone: str, says: str = "", **more: object
    ) -> None:
        size = {"width": max(0.0, width), "height": max(0.0, height)}
        self.add("rect", _tooltip(says), x=x, y=y, **size, fill=COLOURS[tone], **more)

    def path(self, points: Sequence[tuple[float, float]], *, tone: str, **more: object) -> None:
        d = "M" + " L".join(f"{_number(x)} {_number(y)}" for x, y in points)
        self.add("path", d=d, fill="none", stroke=COLOURS[tone], stroke_linejoin="round", **more)

    def mark(self, x: float, y: float, tone: Tone, *, says: str = "", size: float = 4.5) -> None:
        """A point in the shape of its tone: disc, ring, diamond, or hollow square."""
        shape: dict[str, object] = {"stroke": COLOURS[tone], "stroke_width": 1.8}
        match tone:
            case "bad":
                s = size * 1.25
                points = f"{_number(x)},{_number(y - s)} {_number(x + s)},{_number(y)} "
                points += f"{_number(x)},{_number(y + s)} {_number(x - s)},{_number(y)}"
                self.add("polygon", _tooltip(says), points=points, fill=COLOURS[tone], **shape)
            case "open":
                box = {"x": x - size * 0.9, "y": y - size * 0.9, "width": size * 1.8, "height": size * 1.8}
                self.add("rect", _tooltip(says), **box, fill=COLOURS["paper"], **shape)
            case _:
                fill = COLOURS["paper" if tone == "other" else tone]
                self.add("circle", _tooltip(says), cx=x, cy=y, r=size, fill=fill, **shape)

    def cross(self, x: float, y: float, *, says: str) -> None:
        """Where nothing was measured."""
        both = f"M{_number(x - 4)} {_number(y - 4)} l8 8 m0 -8 l-8 8"
        self.add("path", _tooltip(says), d=both, stroke=COLOURS["open"], stroke_width=1.8, fill="none")

    def legend(self, entries: Mapping[str, Tone | Literal["limit"]], y: float) -> float:
        """One line, or several where it must be; returns where it ends."""
        x = 0.0
        for label, tone in entries.items():
            room = 18 + text_width(label) + 18
            if x > 0 and x + room - 18 > self.width:
                x, y = 0.0, y + 19
            if tone == "limit":
                self.line(x + 7, y - 10, x + 7, y + 2, tone="ink", stroke_width=2)
            else:
                self.mark(x + 7, y - 4, tone)
            self.text(x + 18, y, label, tone="quiet")
            x += room
        return y + 12 if entries else y - 12

    def svg(self, height: float, *, title: str, says: str) -> Markup:
        """The picture, with what it is and what it shows for those who cannot see it."""
        name = "f" + sha256(f"{title}{says}{self.width}".encode(errors="replace")).hexdigest()[:10]
        head = _element("title", one_line(title, 300), id=f"{name}t") + _element(
            "desc", one_line(says, 1000), id=f"{name}d"
        )
        return _element(
            "svg",
            head + Markup("").join(self._parts),
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {_number(self.width)} {_number(height)}",
            width=self.width,
            height=height,
            role="img",
            aria_labelledby=f"{name}t {name}d",
            font_family=FONT,
        )


def fit(text: str, room: float, size: float = TEXT) -> str:
    """`text` on one line, cut with an ellipsis where it would be wider than `room`."""
    text = one_line(text, 200)
    if text_width(text, size) <= room:
        return text
    while text and text_width(text, size) > room - size:
        text = text[:-1]
    return f"{text.rstrip()}…"


def text_width(text: str, size: float = TEXT) -> float:
    """About how wide a line is: no font is at hand here, so a little more than usual is assumed."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return size * (0.6 * (len(text) - wide) + wide)


def _element(name: str, content: object = "", **attributes: object) -> Markup:
    """`<name attribute="...">content</name>`, all of it escaped; `font_size` becomes `font-size`."""
    written = "".join(f' {_dashed(key)}="{_plain(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{written}/>" if content == "" else f"<{name}{written}>{escape(content)}</{name}>")


def _dashed(key: str) -> str:
    return key if key == "viewBox" else key.replace("_", "-")


def _plain(value: object) -> str:
    """A value as it may stand in an attribute; numbers, which most are, need no escaping."""
    return _number(value) if isinstance(value, int | float) else escape(str(value))


def _number(value: float) -> str:
    """At most two decimals: a picture of 40 rows stays at a few kB."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else "0"


def _tooltip(says: str) -> Markup | str:
    return _element("title", one_line(says, 300)) if says else ""
