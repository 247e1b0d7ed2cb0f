"""Where templates become pages: the settings that every HTML and every Markdown page shares.

What models, data and file names hold is text here, never markup: every value that a template writes goes through
`shown` and is escaped, and an HTML page forbids scripts, forms and requests to whatever might get past both.
"""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from lifecycle.pages.render import ENVIRONMENT, escaped
from lifecycle.report.text import one_line, shown
from lifecycle.report.words import percent

HERE = Path(__file__).parent
LONGEST_VALUE = 800  # of anything on a page: longer than any reason or path of ours, shorter than a flood
LONGEST_CELL = 600  # of anything in Markdown, where it stands in a table's cell
LONGEST_TEXT = 700  # of an answer or a document


@cache
def html_environment() -> Environment:
    """For pages of HTML. A page adds filters of its own by an overlay."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else shown(value, LONGEST_VALUE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        clip=lambda text: shown(text, LONGEST_TEXT),
        count="{:,}".format,
        counted=lambda number, what: f"{number:,} {what}{'' if number == 1 else 's'}",
        breakable=_breakable,
        percent=percent,
    )
    return environment


@cache
def markdown_environment() -> Environment:
    """As for the Markdown that is sealed with artifacts, with templates from here and bounded values."""
    environment = ENVIRONMENT.overlay(loader=FileSystemLoader(HERE), finalize=_finalize_markdown)
    environment.filters = {**ENVIRONMENT.filters, "count": "{:,}".format, "percent": percent}
    return environment


def style_sheet() -> Markup:
    """The look of every page; it stands in the page itself."""
    return Markup((HERE / "page.css").read_text(encoding="utf-8"))


def policy(style: str) -> str:
    """What a browser may do with the page: apply this style sheet, and nothing else."""
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'none'; base-uri 'none'"


def _breakable(name: object) -> Markup:
    """A name that may go on in the next line after a dot or an underscore."""
    text = escape(shown(name, LONGEST_VALUE))
    return Markup(text.replace(".", Markup(".<wbr>")).replace("_", Markup("_<wbr>")))


def _finalize_markdown(value: Any) -> str:
    return escaped(value if isinstance(value, Markup) else one_line(value, LONGEST_CELL))
