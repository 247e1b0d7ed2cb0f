"""A corrupt row is refused before anything heavy is imported: file, line, reason, and nothing written."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from flows import preflight
from lifecycle import recipes
from lifecycle.data.documents import Source
from lifecycle.data.sources.places import Remote
from lifecycle.errors import InputError

PACK = Path(recipes.__file__).parent / "pack"
HEAVY = ("prefect", "mlflow", "torch", "transformers", "deepspeed")


def damaged(file: Path, line: int, bad: bytes, to: Path) -> Path:
    """A copy of a shipped file in which one line (counted from 1) reads otherwise."""
    rows = gzip.decompress(file.read_bytes()).split(b"\n")
    rows[line - 1] = bad
    to.write_bytes(b"\n".join(rows))
    return to


def test_the_rows_that_ship_pass():
    preflight.check_rows(recipes.load("tiny"))


@pytest.mark.parametrize(
    ("key", "file", "reason"),
    [
        ("suites.suites.0.path", "contract/test.jsonl.gz", "row_bad_json"),
        ("demonstrations.train", "contract/train.jsonl.gz", "row_bad_json"),
        ("comparisons.heldout", "preferences/heldout.jsonl.gz", "row_bad_json"),
    ],
)
def test_one_corrupt_row_is_named_with_its_file_and_line(tmp_path, key, file, reason):
    bad = damaged(PACK / file, 7, b'{"id": "seven", "messages": [', tmp_path / "bad.jsonl")
    with pytest.raises(InputError, match=rf"bad\.jsonl:7: {reason}"):
        preflight.check_rows(recipes.load("tiny", [f"{key}={bad}"]))


def test_a_source_behind_a_network_and_a_large_folder_are_left_to_the_stage(tmp_path, monkeypatch):
    tiny = recipes.load("tiny")
    far = Source(name="far", path=Remote(url="https://nowhere.invalid/a.jsonl", sha256="0" * 64), licence="CC0-1.0")
    preflight.check_rows(tiny.model_copy(update={"corpus": tiny.corpus.model_copy(update={"sources": (far,)})}))
    (tmp_path / "below").mkdir()
    (tmp_path / "below/bad.jsonl").write_text("no json\n")
    broken = recipes.load("tiny", [f"corpus.sources.0.path={tmp_path}"])
    with pytest.raises(InputError, match="row_bad_json"):
        preflight.check_rows(broken)
    monkeypatch.setattr(preflight, "LARGEST_INPUT_BYTES", preflight.input_bytes(broken) - 1)
    preflight.check_rows(broken)


def test_a_source_of_broken_rows_is_refused_with_its_funnel(tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "1", "text": 5}\n' * 10)
    with pytest.raises(InputError, match=r"bad\.jsonl:1(.|\n)*unusable rows"):
        preflight.check_rows(recipes.load("tiny", [f"corpus.sources.0.path={bad}"]))


def test_the_command_exits_2_with_one_message_imports_nothing_heavy_and_writes_nothing(tmp_path):
    bad = damaged(PACK / "contract/train.jsonl.gz", 7, b"no json", tmp_path / "bad.jsonl")
    arguments = ["--store", str(tmp_path / "store"), "--set", f"demonstrations.train={bad}"]
    program = (
        "import sys; from flows import cli\n"
        f"code = cli.main('full_lifecycle', {arguments!r})\n"
        f"assert not set({HEAVY!r}) & set(sys.modules), sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "sys.exit(code)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "bad.jsonl:7" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "store").exists()
