"""What a benchmark takes from a store: `make run` leaves one of everything."""

import sys
from pathlib import Path


def newest(store: Path, stage: str) -> Path:
    """The artifact of a stage that was sealed last."""
    return sealed(store, stage)[-1]


def sealed(store: Path, stage: str) -> list[Path]:
    """Every artifact of a stage, the oldest first."""
    found = sorted((store / "artifacts" / stage).glob("*/manifest.json"), key=lambda file: file.stat().st_mtime)
    if not found:
        sys.exit(f"expected an artifact of {stage} in {store}, found none. Give `make run` first, or another --store.")
    return [file.parent for file in found]
