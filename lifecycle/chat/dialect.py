"""What transformers adds to Jinja for chat templates: a tag, and a namespace that is no way out of the sandbox."""

from typing import Any

import jinja2
from jinja2.ext import Extension
from jinja2.utils import Namespace


class GenerationTag(Extension):
    """`{% generation %}`, which says where an assistant speaks. We find out from the contents, and pass it over."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 wants a plain class attribute)

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class TemplateNamespace(Namespace):
    """Jinja's namespace without names that begin with an underscore, as transformers has it."""

    def __init__(*args: Any, **values: Any) -> None:
        self, rest = args[0], args[1:]
        for name in dict(*rest, **values):
            TemplateNamespace._check(name)
        Namespace.__init__(self, *rest, **values)

    def __setitem__(self, name: str, value: Any) -> None:
        TemplateNamespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace may not hold {name!r}")
