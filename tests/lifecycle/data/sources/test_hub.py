"""Data sets of the hub: exactly the pinned commit, through its own client and `datasets`, from a hub on loopback."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow  # `datasets` and the hub's client in a process of their own

CARD = """---
configs:
- config_name: all
  data_files: rows/*.parquet
- config_name: broken
  data_files: broken/*.parquet
---
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    parquet = folder / "hub/org/parquet"
    for kind in ("rows", "broken"):
        (parquet / kind).mkdir(parents=True)
        for file in range(2):
            rows = {"id": [f"{file}-{row}" for row in range(3)], "text": ["fine", None, "a\0b"], "n": [1, 2, 3]}
            pq.write_table(pa.table(rows), parquet / kind / f"{file}.parquet", row_group_size=2)
    (parquet / "README.md").write_text(CARD)
    (parquet / "broken/1.parquet").write_bytes((parquet / "rows/1.parquet").read_bytes()[:-10])
    rows = b'{"text": "one"}\n{"text": null}\n{"text": "three"}\n'
    for owner in ("hub/org", "org"):  # the second lies in the working folder, under the name of the first
        (folder / owner / "json").mkdir(parents=True)
        (folder / owner / "json/rows.jsonl").write_bytes(rows if owner == "hub/org" else b'{"text": "not this"}\n')
    script = Path(__file__).parents[3] / "support/hub_reading.py"
    done = subprocess.run([sys.executable, script, folder], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_each_file_of_a_split_is_a_shard_and_rows_that_are_no_text_are_quarantined(found):
    name = "org/parquet@aaaaaaaaaaaa (all, train), file 1 of 2"
    assert len(found["parquet"]) == 2
    assert found["parquet"][0] == [
        ["sea", "0-0", "fine"],
        ["sea", "0:2", ["row_no_text", f"{name}:2"], "None"],
        ["sea", "0:3", ["row_nul", f"{name}:3"], "a\0b"],
    ]


def test_rows_without_an_id_are_named_by_file_and_row(found):
    assert [row[1] for row in found["json"][0]] == ["0:1", "0:2", "0:3"]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no such config", "expected to find it on the hub, found ValueError: BuilderConfig 'other' not found."),
        ("no such split", "expected to find it on the hub, found ValueError: Bad split: dev."),
        ("no such revision", "expected to find it on the hub, found DatasetNotFoundError"),
        ("broken", "file 2 of 2: expected to read it, found at row 1 or later: ArrowInvalid"),
    ],
)
def test_what_is_not_there_or_cannot_be_read_is_one_clear_error(found, case, message):
    assert message in found[case]


def test_another_revision_in_the_cache_is_refused_when_the_hub_no_longer_has_the_data_set(found):
    assert f"expected revision {'c' * 40}, found" in found["no longer there"]
    assert "in the cache of `datasets`, since the hub did not give it" in found["no longer there"]
