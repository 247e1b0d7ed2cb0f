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


def test_host_memory_is_shown_for_gpus_elsewhere_and_judged_where_it_is_said(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "220")
    arguments = ["memory", "--recipe", "zero3", "--world-size", "64", "--gpu-memory", "80GiB"]
    assert "GiB of host memory of a machine with 8 ranks, 2 outside of tensors each\n" in said(capsys, *arguments)
    shown = json.loads(said(capsys, *arguments, "--json"))["host"]
    assert (shown["fits"], shown["available_bytes"], shown["ranks"]) == (None, None, 8)
    few = said(capsys, *arguments, "--host-memory", "32GiB")
    assert "each; it has 32.0" in few
    assert "does not fit" in few
    assert "GiB too many in the host memory of a machine" in few
    assert "No setting fits" in few
    enough = json.loads(said(capsys, *arguments, "--host-memory", "1TiB", "--json"))
    assert enough["host"]["fits"]
    offloaded = ["--set", "pretrain.zero.offload_optimizer=true"]
    more = json.loads(said(capsys, *arguments, *offloaded, "--json"))["host"]
    assert more["moments"][1]["each"] > 5 * 4 * 6_738_415_616 / 64 > shown["moments"][1]["each"] == 0


def test_only_stages_that_the_run_would_be_let_into_are_offered(capsys):
    arguments = ["memory", "--gpu-memory", "80GiB", "--json"]
    half = ["--set", "pretrain.precision=fp16", "--set", "pretrain.zero.stage=1"]
    compiled = ["--set", "pretrain.compile=true"]
    for settings, stages in ((half, {1, 2, 3}), (compiled, {0, 1, 2}), (half + compiled, {1, 2})):
        assert {row["zero"] for row in json.loads(said(capsys, *arguments, *settings))["options"]} == stages
    assert program.main(["plan", "memory", "--gpu-memory", "80GiB", "--set", "pretrain.precision=fp16"]) == 2
    assert "with ZeRO 1, 2 or 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["memory", "--world-size", "0"], "--world-size of at least 1, found 0"),
        (["memory", "--world-size", "-8"], "--world-size of at least 1, found -8"),
        (["memory", "--world-size", "7"], "multiple of ranks x micro_batch_rows, found 16 and 7 x 2"),
        (["memory", "--gpu-memory", "80GiB", "--world-size", "100000"], "found 16 and 100000 x 1"),
        (["memory", "--vocab-size", "0"], "--vocab-size of at least 1, found 0"),
        (["memory", "--mfu", "0"], "--mfu above 0 and at most 1, found 0.0"),
        (["memory", "--gpu-memory", "80"], "a size of memory like 80GiB or 80GB, found '80'"),
        (["memory", "--gpu-memory", "0GiB"], "a size of memory above 0, found '0GiB'"),
        (["memory", "--gpu-memory", "80GiB", "--host-memory", "much"], "80GiB or 80GB, found 'much'"),
        (["memory", "--gpu-memory", "1GiB"], "more than the 2.0 GiB outside of torch's allocator, found 1.0"),
        (["compute", "--flops", "1e21", "--batch-tokens", "0"], "--batch-tokens of at least 1, found 0"),
        (["compute", "--flops", "1e21", "--world-size", "0"], "--world-size of at least 1, found 0"),
        (["compute", "--flops", "1e21", "--price", "-2"], "--price of at least 0, found -2.0"),
        (["compute", "--flops", "nan"], "a budget above 0, found nan"),
        (["compute", "--gpu-hours", "inf"], "a budget above 0, found inf"),
    ],
)
def test_what_nothing_can_be_planned_with_is_refused_in_a_sentence(capsys, arguments, words):
    assert program.main(["plan", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_plan_of_more_ranks_than_numbers_is_a_plan(capsys):
    """Padding to two numbers a rank is all there is: more than the model itself, and no error."""
    shape = 'pretrain.model={"hidden_size": 8, "layers": 1, "heads": 1, "kv_heads": 1, "intermediate_size": 8}'
    settings = ["--set", shape, "--set", "pretrain.batch_rows=32768", "--vocab-size", "16"]
    data = json.loads(said(capsys, "memory", "--gpu-memory", "8GiB", "--world-size", "32768", *settings, "--json"))
    assert {row["zero"] for row in data["options"]} == {0, 1, 2, 3}
    assert all(row["peak_bytes"] > 0 for row in data["options"])


def test_a_budget_beyond_what_the_laws_have_seen_is_called_a_guess(capsys):
    assert "they are a guess" not in said(capsys, "compute", "--flops", "1e21")
    assert "fitted on runs of 6e+18 to 3e+21 operations: of this one they are a guess" in said(
        capsys, "compute", "--flops", "1e26"
    )


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
