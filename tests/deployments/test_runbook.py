"""What the runbook says is so: its sizes are what `plan` says, its pictures and commands are there."""

import json
import re
from pathlib import Path

import pytest

from lifecycle.__main__ import main

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text()
SIZES = re.findall(
    r"^\| (\d+) \| (\w+)[^|]*?(?:`(\S+)`)? \| ([\d.]+) \| ([\d.]+), ([\d.]+) \| ([\d.]+) GB \|", TEXT, re.M
)
IN_A_STEP = ("end of forward", "loss", "backward", "reduce", "step")


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main(["plan", *words, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_sizes_are_there_for_one_eight_and_many_gpus():
    assert [(gpus, recipe) for gpus, recipe, *_ in SIZES] == [
        ("1", "gpt2_124m"),
        ("8", "gpt2_124m"),
        ("8", "zero3"),
        ("512", "zero3"),
    ]


@pytest.mark.parametrize(("gpus", "recipe", "setting", "hours", "largest", "in_a_step", "checkpoint_gb"), SIZES)
def test_a_size_is_what_plan_says(capsys, gpus, recipe, setting, hours, largest, in_a_step, checkpoint_gb):
    asked = ["--recipe", recipe, "--world-size", gpus, *(["--set", setting] if setting else [])]
    compute = planned(capsys, "compute", *asked)
    assert f"{compute['hours']:.1f}" == hours
    assert float(checkpoint_gb) == pytest.approx(12 * compute["parameters"] / 1e9, rel=0.01)  # weights and two moments
    memory = planned(capsys, "memory", *asked, "--gpu-memory", "80GiB")["as_set"]
    assert f"{memory['peak_bytes'] / 2**30:.1f}" == largest
    steps = [moment["total"] for moment in memory["moments"] if moment["name"].startswith(IN_A_STEP)]
    assert f"{max(steps) / 2**30:.1f}" == in_a_step


def test_every_picture_and_page_it_shows_is_there():
    shown = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert [file for file in shown if not (ROOT / "docs" / file).is_file()] == []


@pytest.mark.parametrize("words", sorted(set(re.findall(r"python -m lifecycle ([a-z]+(?: (?:push|pull))?)", TEXT))))
def test_every_command_of_ours_exists(capsys, words):
    with pytest.raises(SystemExit) as ended:
        main([*words.split(), "--help"])
    assert ended.value.code == 0
