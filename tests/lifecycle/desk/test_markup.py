"""Whatever a model writes, the page shows it and obeys none of it."""

import time

import pytest

from lifecycle.desk.markup import LONGEST, rendered


def test_emphasis_lists_tables_and_code_are_markdown():
    html = rendered("# T\n\n**b** *i* `c`\n\n- one\n\n| a |\n|---|\n| 1 |\n\n```py\nx < 1\n```")
    for part in ("<h1>T</h1>", "<strong>b</strong>", "<code>c</code>", "<li>one</li>", "<td>1</td>", "x &lt; 1"):
        assert part in html


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[click](javascript:alert(1))",
        "[click](https://evil.example)",
        "![x](https://evil.example/x.png)",
        "<https://evil.example>",
        "[a]\n\n[a]: https://evil.example",
        "<div>\n\n<style>*{display:none}</style>\n\n</div>",
        '```"onmouseover=alert(1)\nx\n```',
        "| <b>a</b> |\n|---|\n| <svg/onload=alert(1)> |",
        "&lt;script&gt;",
        "~~<base href=//evil.example>~~",
    ],
)
def test_no_tag_link_image_or_attribute_of_a_model_gets_through(attack):
    html = rendered(attack)
    allowed = ("p", "em", "strong", "code", "pre", "table", "thead", "tbody", "tr", "th", "td", "s", "div")
    tags = [part.split(">")[0] for part in html.split("<")[1:]]
    for tag in tags:
        name = tag.strip("/").split()[0]
        assert name in allowed, html
        assert "href" not in tag
        assert "src" not in tag
        assert " on" not in tag.replace('class="language-', "")


def test_control_characters_and_directions_become_visible_however_they_are_written():
    html = rendered("a\u202eb\x1b[0m c&#x202E;d")
    assert "⟨U+202E⟩" in html
    assert "␛" in html
    assert "\u202e" not in html, "an entity is not turned into what it names"


def test_an_answer_of_ten_megabytes_is_cut_and_says_so():
    began = time.monotonic()
    html = rendered("x" * 10_000_000)
    assert len(html) < 2 * LONGEST
    assert "more characters" in html
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("piece", ["*a_", "[", "`", "> ", "- ", "|a", "**", "<", "\\", "![](", "~~", "(" * 3])
def test_no_pattern_takes_a_page_down(piece):
    began = time.process_time()
    rendered(piece * (LONGEST // len(piece)))
    assert time.process_time() - began < 3
