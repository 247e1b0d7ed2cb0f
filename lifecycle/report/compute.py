"""The compute plan for people and for programs: the best split of a budget, and what a recipe costs."""

from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.compute import APPROACHES, FITTED_ON, REFIT, flops_of_run, hours_of_flops, judge
from lifecycle.model.gpt2 import Gpt2Config


class Machine(NamedTuple):
    """What computes, and what it costs."""

    gpus: int
    peak_flops: float
    mfu: float
    price: float | None
    """Of an hour of one GPU, in whatever money."""


def split(flops: float, machine: Machine, *, batch_tokens: int) -> dict[str, Any]:
    """A budget's best split by each approach, with the steps, hours and cost it comes to."""
    rows: list[dict[str, Any]] = []
    for approach in APPROACHES:
        best = approach.optimum(flops)
        row: dict[str, Any] = {"approach": approach.name, "parameters": best.parameters, "tokens": best.tokens}
        row |= {"tokens_per_parameter": best.tokens / best.parameters, "steps": round(best.tokens / batch_tokens)}
        rows.append({**row, "loss_by_refit": REFIT.loss(*best)})
    sizes = [row["parameters"] for row in rows]
    return {
        "flops": flops,
        "batch_tokens": batch_tokens,
        "approaches": rows,
        "spread": max(sizes) / min(sizes),
        "extrapolated": _is_extrapolated(flops),
        **_cost(flops, machine),
    }


def of_recipe(
    model: ModelConfig | Gpt2Config, machine: Machine, *, steps: int, batch_rows: int, vocab_size: int, max_seq_len: int
) -> dict[str, Any]:
    """What a recipe's pretraining computes, takes and costs, and what the laws say of it."""
    tokens = steps * batch_rows * max_seq_len
    parameters = model.parameters(vocab_size, max_seq_len)
    flops = flops_of_run(model, vocab_size=vocab_size, max_seq_len=max_seq_len, tokens=tokens)
    said = judge(parameters, tokens)
    return {
        "parameters": parameters,
        "tokens": tokens,
        "steps": steps,
        "tokens_per_parameter": tokens / parameters,
        "flops": flops,
        "extrapolated": _is_extrapolated(flops),
        **_cost(flops, machine),
        "optimal_parameters": [said.smallest, said.largest],
        "excess_loss": said.excess_loss,
        "needed_share": said.needed_share,
        "warnings": list(said.warnings),
    }


def split_screen(data: dict[str, Any], machine: Machine) -> RenderableType:
    """The split as a table and a sentence."""
    table = Table(title=f"{data['flops']:.3g} floating-point operations: the best split", title_justify="left")
    for column in ("approach", "parameters", "tokens", "tokens a parameter", "steps", "loss by the law fitted again"):
        table.add_column(column, justify="left" if column == "approach" else "right")
    for row in data["approaches"]:
        numbers = (_count(row["parameters"]), _count(row["tokens"]), f"{row['tokens_per_parameter']:.1f}")
        table.add_row(row["approach"], *numbers, f"{row['steps']:,}", f"{row['loss_by_refit']:.4f}")
    spread = f"The approaches differ by a factor of {data['spread']:.2f} in parameters"
    steps = f"steps of {data['batch_tokens']:,} tokens."
    return Group(table, "", f"{spread}; {steps}", *_beyond(data), _cost_line(data, machine))


def recipe_screen(data: dict[str, Any], name: str, machine: Machine) -> RenderableType:
    """The recipe's cost in sentences."""
    low, high = data["optimal_parameters"]
    return Group(
        f"{name}: {data['parameters']:,} parameters on {_count(data['tokens'])} tokens "
        f"({data['tokens_per_parameter']:.1f} a parameter) in {data['steps']:,} steps: {data['flops']:.3g} "
        "floating-point operations.",
        _cost_line(data, machine),
        f"At this compute the laws say {_count(low)} to {_count(high)} parameters; the recipe's loss is "
        f"{data['excess_loss']:.3f} nats above the best one, and {100 * data['needed_share']:.0f} % of its compute "
        "could reach it.",
        *_beyond(data),
        *(f"Warning: {warning}" for warning in data["warnings"]),
    )


def _is_extrapolated(flops: float) -> bool:
    return not FITTED_ON[0] <= flops <= FITTED_ON[1]


def _beyond(data: dict[str, Any]) -> list[str]:
    """That the laws are asked for what they have not seen."""
    low, high = FITTED_ON
    said = f"The laws were fitted on runs of {low:.0e} to {high:.0e} operations: of this one they are a guess."
    return [said] if data["extrapolated"] else []


def _cost(flops: float, machine: Machine) -> dict[str, Any]:
    gpu_hours = hours_of_flops(flops, peak_flops=machine.peak_flops, mfu=machine.mfu)
    cost = None if machine.price is None else gpu_hours * machine.price
    return {"gpu_hours": gpu_hours, "hours": gpu_hours / machine.gpus, "cost": cost}


def _cost_line(data: dict[str, Any], machine: Machine) -> str:
    speed = f"{machine.peak_flops / 1e12:,.0f} TFLOP/s at {100 * machine.mfu:.0f} % of peak"
    cost = "; --price says what that costs" if data["cost"] is None else f", {data['cost']:,.0f} in money"
    return f"{data['hours']:,.1f} hours on {machine.gpus} GPUs of {speed}: {data['gpu_hours']:,.1f} GPU hours{cost}."


def _count(number: float) -> str:
    for size, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.3g}{name}"
    return f"{number:,.0f}"
