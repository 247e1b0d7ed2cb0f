"""Markdown that other places keep as it is, shown in the Prefect UI."""

import re

from prefect.artifacts import create_markdown_artifact

from lifecycle.pages.render import ENTITIES

BACKSLASHED = {entity: rf"\{chr(character)}" for character, entity in ENTITIES.items()}


def publish(page: str, *, key: str, description: str) -> None:
    """An artifact of the run, or of the task, that is at work."""
    create_markdown_artifact(for_prefect(page), key=key, description=description)


def for_prefect(page: str) -> str:
    """The same page. Its UI (Prefect 3.8) shows `&#91;` as these five characters; a backslash escapes there, too."""
    return re.sub("|".join(map(re.escape, BACKSLASHED)), lambda found: BACKSLASHED[found[0]], page)
