"""Markdown of a model as HTML that can do nothing: no tag of its own, no link, no image, no request."""

from functools import cache, lru_cache

from markdown_it import MarkdownIt
from markupsafe import Markup

from lifecycle.report.text import shown

LONGEST = 20_000
"""Characters of an answer on the page, about 3,000 words. More is said to be there; nobody compares a flood."""


@lru_cache(maxsize=512)
def rendered(text: str) -> Markup:
    """The text with its emphasis, lists, tables and code; whatever else it holds is shown as it was written.

    Control characters become visible before anything is parsed. Entities stay as written too: `&#x202E;` would
    bring one back behind that.
    """
    return Markup(_parser().render(shown(text, LONGEST)))


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "typographer": False, "maxNesting": 20})
    parser.enable(["table", "strikethrough"])
    # `[text](url)` stays text, with its address for all to see: a page of the desk leads nowhere and loads nothing.
    parser.disable(["html_block", "html_inline", "link", "image", "autolink", "reference", "entity"])
    return parser
