"""A canary's numbers, held against what its recipe expects as soon as a stage has made them."""

from collections.abc import Sequence
from contextlib import suppress

from prefect.artifacts import create_table_artifact

from lifecycle import expectations
from lifecycle.errors import CanaryRed
from lifecycle.expectations import Line
from lifecycle.sealing import Artifact
from tasks.session import Session


def hold(session: Session, stage: str, artifact: Artifact, inputs: Sequence[Artifact | None]) -> None:
    """Raise CanaryRed, naming every line that broke; before the stages below spend hours on a wrong number.

    Only where the request asks for it: who changes a recipe with `--set` expects other numbers than it does.
    """
    if not session.request.canary:
        return
    lines = expectations.held(session.recipe.expected, stage, artifact, inputs)
    if not lines:
        return
    broken = [line for line in lines if not line.holds]
    with suppress(Exception):  # the exception below says it; this is its picture
        create_table_artifact(_rows(lines), key=f"canary-{stage}", description=_sentence(stage, lines, broken))
    if broken:
        raise CanaryRed(
            f"canary red: {'; '.join(map(str, broken))}. What changed since it was green: `git log`, the raw files, a "
            f"package. Look at {artifact.path}; where the new number is right, mend `expected` of the recipe."
        )


def _rows(lines: Sequence[Line]) -> list[dict[str, str | float]]:
    return [
        {
            "": "✓" if line.holds else "✕",
            "number": line.expected.number,
            "found": line.found,
            "at least": line.expected.at_least,
            "at most": line.expected.at_most,
        }
        for line in lines
    ]


def _sentence(stage: str, lines: Sequence[Line], broken: Sequence[Line]) -> str:
    return f"{stage}: {len(lines) - len(broken)} of {len(lines)} numbers as expected"
