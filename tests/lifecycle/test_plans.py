"""`plan memory` and `plan compute` as a person and a program call them."""

import json

import pytest

from lifecycle import __main__ as program
from lifecycle.model.memory import OUTSIDE


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert program.main(["plan", *arguments]) == 0
    return capsys.readouterr().out


def test_seven_billion_parameters_fit_64_gpus_and_the_plan_says_how(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "220")
    arguments = ["memory", "--recipe", "zero3", "--world-size", "64", "--gpu-memory", "80GiB"]
    text = said(capsys, *arguments)
    assert "GiB on each of 64 ranks, as set; 78.0 usable" in text
    assert "Fastest that fits: --set pretrain.zero.stage=" in text
    assert "GiB too many at" in text
    data = json.loads(said(capsys, *arguments, "--json"))
    assert data["as_set"]["fits"]
    names = [moment["name"] for moment in data["as_set"]["moments"]]
    assert {"start", "loss", "step", "save a checkpoint", "validate", "write the model"} < set(names)
    fits = [row for row in data["options"] if row["fits"]]
    assert min(fits, key=lambda row: row["seconds"])["seconds"] == fits[0]["seconds"]
    assert {row["zero"] for row in data["options"] if not row["fits"]} >= {0}


def test_where_nothing_fits_the_plan_says_so(capsys):
    arguments = ["memory", "--recipe", "zero3", "--world-size", "8", "--gpu-memory", "16GiB"]
    assert "No setting fits: more ranks" in said(capsys, *arguments)


def test_without_a_size_the_machine_is_asked(capsys):
    data = json.loads(said(capsys, "memory", "--json"))
    assert data["available_bytes"] > 2**28
    assert data["as_set"]["fits"]


def test_a_recipes_own_size_is_of_what_this_machine_computes_on_as_the_stage_reads_it(capsys, monkeypatch):
    monkeypatch.setattr("lifecycle.model.machine._gpus", list)
    data = json.loads(said(capsys, "memory", "--set", "pretrain.device_memory=4GiB", "--json"))
    assert (data["available_bytes"], data["usable_bytes"]) == (4 * 2**30, 4 * 2**30 - OUTSIDE["cpu"])


def test_a_budget_is_split_by_all_approaches_with_their_spread(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    text = said(capsys, "compute", "--flops", "1e21")
    for number in ("2.85B", "2.82B", "2.21B", "2.78B", "factor of 1.29"):
        assert number in text
    data = json.loads(said(capsys, "compute", "--gpu-hours", "64", "--mfu", "0.45", "--price", "2", "--json"))
    assert (data["gpu_hours"], data["hours"], data["cost"]) == (pytest.approx(64), pytest.approx(8), pytest.approx(128))


def test_a_recipe_says_its_hours_before_it_starts(capsys):
    text = said(capsys, "compute", "--recipe", "gpt2_124m")
    assert "124,439,808 parameters on 10B tokens (80.4 a parameter) in 19,074 steps" in text
    assert "hours on 8 GPUs" in text
    assert "Warning" not in text
    assert "Warning: small for its compute" in said(
        capsys,
        "compute",
        "--recipe",
        "gpt2_124m",
        "--set",
        'pretrain.horizon={"kind": "tokens", "tokens": 600000000000}',
    )


def test_no_budget_or_two_are_refused(capsys):
    assert program.main(["plan", "compute"]) == 2
    assert "--flops 1e21, --gpu-hours 64 or --recipe NAME" in capsys.readouterr().err
    assert program.main(["plan", "compute", "--flops", "1e21", "--gpu-hours", "3"]) == 2
    assert program.main(["plan", "compute", "--flops", "1e21", "--mfu", "40"]) == 2
    assert "at most 1, found 40" in capsys.readouterr().err
    assert program.main(["plan", "compute", "--flops", "0"]) == 2
    assert "expected a budget above 0, found 0.0" in capsys.readouterr().err
