"""Speed of every step of the data stage against its peers: `python -m benchmarks.data [--json FILE] [--only STEP]`.

Peers come from the extra `bench`. The input is the shipped text several times over, with copies and near copies.
"""

import argparse
import importlib
import pkgutil
import random
import tempfile
from dataclasses import asdict
from pathlib import Path

import orjson

from benchmarks import data_rows
from lifecycle.data.jsonl import read_lines

PACK = Path(__file__).parent.parent / "lifecycle" / "recipes" / "pack" / "corpus"
ROUNDS = 4  # times the shipped text: 24 MB


def write_corpus(folder: Path, rounds: int = ROUNDS) -> Path:
    """The shipped text, then rounds of it: a fifth copied, a fifth with a few words changed, the rest new mixtures."""
    draw = random.Random(0)
    rows = [line.row for path in sorted(PACK.glob("*.jsonl.gz")) for line in read_lines(path) if line.row]
    words = [word for row in rows for word in row["text"].split(" ")]
    path = folder / "corpus.jsonl"
    with path.open("wb") as file:
        for number in range(rounds):
            for row in rows:
                text, kind = row["text"], draw.random() if number else 0.0
                changed = 0.0 if kind < 0.2 else 0.01 if kind < 0.4 else 0.5
                if changed:
                    text = " ".join(draw.choice(words) if draw.random() < changed else w for w in text.split(" "))
                new = {"id": f"{number}/{row['id']}", "text": text}
                file.write(orjson.dumps(new, option=orjson.OPT_APPEND_NEWLINE))
    return path


def main() -> None:
    """Print the table, and write one object a row where asked."""
    steps = [module.name for module in pkgutil.iter_modules(data_rows.__path__)]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write one JSON object a row to this file")
    parser.add_argument("--only", choices=steps, action="append", help="measure this step; may be given again")
    arguments = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder))
        for step in arguments.only or steps:
            found += importlib.import_module(f"benchmarks.data_rows.{step}").rows(Path(folder))
    print(f"{'step and peer':<52}{'ours':>9}{'peer':>9}{'ratio':>8}{'spread':>14}{'at least':>10}  unit")
    for row in found:
        speeds = f"{row.ours:>9.1f}{row.peer:>9.2f}{row.ratio:>8.1f}{row.spread:>14}"
        print(f"{row.name:<52}{speeds}{row.at_least:>10}  {row.unit}")
    if arguments.json:
        arguments.json.write_bytes(
            b"".join(orjson.dumps(asdict(row), option=orjson.OPT_APPEND_NEWLINE) for row in found)
        )


if __name__ == "__main__":
    main()
