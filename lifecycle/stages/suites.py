"""Held-out items first: what we will score is sealed before anything is trained, and kept out of all training data."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from lifecycle import progress
from lifecycle.artifacts import Suites
from lifecycle.data.jsonl import write_rows
from lifecycle.evaluation.kinds import AnySuite
from lifecycle.evaluation.kinds.contract import ContractSuite as SuiteFile
from lifecycle.evaluation.kinds.next_token import BITS
from lifecycle.sealing import StageConfig

__all__ = ["SuiteFile", "SuitesConfig", "check_rows", "collect_suites"]


class SuitesConfig(StageConfig):
    """Which items are held out. One bad row refuses the file: a score over unknown items means nothing."""

    stage: ClassVar[str] = "suites"
    revision: ClassVar[int] = 2
    suites: tuple[AnySuite, ...] = Field(min_length=1, description="What is asked; each kind is one file of code.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> "SuitesConfig":
        names = [BITS, *(suite.name for suite in self.suites)]
        if len(set(names)) < len(names):
            raise ValueError(f"expected suites with different names, found {names}. Rename one.")
        return self


def collect_suites(config: SuitesConfig, *, out_dir: Path) -> Suites:
    """Check every item, split the right answer from the prompt, and write one file per suite."""
    items: dict[str, int] = {}
    settings: dict[str, dict[str, Any]] = {}
    baselines: dict[str, float] = {}
    for done, suite in enumerate(config.suites):
        progress.report(done, len(config.suites), "suites", suite.name)
        rows = suite.rows()
        items[suite.name] = write_rows(out_dir / f"{suite.name}.jsonl", map(suite.stored, rows))
        settings[suite.name] = suite.sealed_into(out_dir)
        baselines |= {f"{suite.name}.{name}": value for name, value in suite.baselines(rows).items()}
    return Suites(path=out_dir, items=items, settings=settings, baselines=baselines).seal(config)


def check_rows(config: SuitesConfig) -> None:
    """Raise InputError where a row is no item."""
    for suite in config.suites:
        suite.rows()
