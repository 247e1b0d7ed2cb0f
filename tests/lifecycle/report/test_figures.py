"""Pictures: where values land, what they say to those who cannot see them, and that text stays text."""

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.report.figures import (
    Axis,
    Bar,
    Counts,
    Mark,
    Row,
    Series,
    Step,
    bars,
    funnel,
    histogram,
    intervals,
    lines,
)
from lifecycle.report.svg import Scale, fit, text_width

SVG = "{http://www.w3.org/2000/svg}"
SAID = {"title": "Differences", "says": "one row"}
EVIL = "</title><script>alert(1)</script>\u202e\x00"


def parsed(picture):
    return ElementTree.fromstring(picture)


def every_picture(text="a", value=0.5, width=720):
    mark = Mark(value, value, value, says=text)
    said = {"title": text, "says": text, "width": width}
    axis = Axis(text)
    return [
        intervals([Row(text, [mark, Mark(None)], text, value)], axis=axis, zero=True, legend={text: "bad"}, **said),
        bars([Bar(text, value, says=text)], **said),
        lines([Series(text, [(value, mark)]), Series(text, [(value, mark)], points_only=True)], x=axis, y=axis, **said),
        histogram([0, 1, 2], [Counts(text, [value, 0]), Counts(text, [0, value], "other")], x=axis, y=axis, **said),
        funnel([Step(text, 3), Step(text, 2, {text: 1})], **said),
    ]


def test_a_scale_puts_its_ends_and_its_middle_where_they_belong_and_ticks_are_round():
    scale = Scale(0.0, 10.0, 100.0, 300.0)
    assert [scale(0), scale(5), scale(10), scale(99)] == [100, 200, 300, 300]
    assert scale.ticks(5) == [0, 2, 4, 6, 8, 10]
    assert Scale(-0.031, 0.052, 0, 1).ticks(5) == [-0.02, 0, 0.02, 0.04]


def test_a_forest_plot_draws_value_interval_and_bar_at_their_places():
    axis = Axis("points", low=-10, high=10)
    row = Row("correct", [Mark(2, 1, 3)], "+2 [+1, +3]", limit=-4)
    found = parsed(intervals([row], axis=axis, **SAID, width=480))
    disc = float(found.find(f"{SVG}circle").get("cx"))
    spans = [line for line in found.iter(f"{SVG}line") if line.get("stroke-width") == "2"]
    bar, interval = sorted(spans, key=lambda line: float(line.get("x2")) - float(line.get("x1")))
    one = (disc - float(bar.get("x1"))) / 6  # from -4 to 2
    assert float(interval.get("x1")) == pytest.approx(disc - one, abs=0.02)
    assert float(interval.get("x2")) == pytest.approx(disc + one, abs=0.02)


def test_every_picture_says_what_it_is_and_what_it_shows():
    for picture in every_picture("bits per byte"):
        root = parsed(picture)
        names = {child.get("id"): child.text for child in root if child.get("id")}
        assert root.get("role") == "img"
        assert [names[id] for id in root.get("aria-labelledby").split()] == ["bits per byte", "bits per byte"]


def test_text_stays_text_and_every_picture_is_well_formed():
    for width in (346, 720):
        for picture in every_picture(EVIL, width=width):
            assert "<script" not in picture
            assert "\u202e" not in picture
            parsed(picture)


@settings(max_examples=40)
@given(st.one_of(st.none(), st.floats()))
def test_no_number_breaks_a_picture(value):
    picture = intervals([Row("a", [Mark(value, value, value)])], axis=Axis(show=lambda _: ""), **SAID)
    assert "nan" not in picture
    assert "inf" not in picture
    parsed(picture)


def test_what_was_not_measured_is_a_cross_and_never_a_point():
    for nothing in (None, math.nan):
        found = parsed(intervals([Row("a", [Mark(nothing)], "not measured")], axis=Axis(), **SAID))
        assert found.find(f"{SVG}circle") is None
        assert "not measured" in "".join(found.itertext())


def test_tones_differ_in_shape_and_not_in_colour_alone():
    shapes = []
    for tone in ("good", "bad", "open"):
        found = parsed(intervals([Row("a", [Mark(1, tone=tone)])], axis=Axis(), **SAID))
        shapes.append(next(part.tag for part in found if part.tag[len(SVG) :] in ("circle", "polygon", "rect")))
    assert len(set(shapes)) == 3


def test_a_label_too_wide_is_cut_with_an_ellipsis():
    assert fit("contract.sampled_correct", 60).endswith("…")
    assert text_width(fit("日本語" * 30, 100)) <= 100
    assert fit("short", 100) == "short"
