"""`plan`: what a policy, a training or a budget will cost, before anything is started."""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console, RenderableType

from lifecycle.commands import existing_store, of_a_store
from lifecycle.errors import ConfigError, InputError
from lifecycle.model import foreign
from lifecycle.model.activations import FP32
from lifecycle.model.compute import PEAK_FLOPS, flops_of_hours
from lifecycle.model.families import Model, OfTheBase
from lifecycle.model.fitting import GIB, Speeds, options, size_of
from lifecycle.model.machine import Memory, memory_of_a_rank
from lifecycle.model.memory import OUTSIDE, generation
from lifecycle.report import compute, memory
from lifecycle.report.compute import Machine
from lifecycle.runs import find_run

if TYPE_CHECKING:
    from lifecycle.recipes import LifecycleConfig
    from lifecycle.stages.pretrain import PretrainConfig


def add(commands: Any) -> None:
    """Add it to a parser."""
    plan = commands.add_parser("plan", help="what a gate, a training or a budget will cost, before anything is started")
    plan.add_argument(
        "what",
        choices=["gate", "memory", "compute"],
        help="the items every rule needs and the policy's error rates; what a rank of pretraining holds and which ways "
        "fit; how a budget is best spent, or with --recipe what it costs",
    )
    plan.add_argument("run", nargs="?", default="last", help="of gate: whose reports are the pilot; default: last")
    plan.add_argument("--recipe", help="a recipe's name, or a file of yours: my_recipes.py:name; default: tiny")
    plan.add_argument("--set", action="append", default=[], dest="settings", metavar="STAGE.KEY=VALUE")
    plan.add_argument("--histories", type=int, default=4000, help="of gate: simulated of each kind of model")
    plan.add_argument("--world-size", type=int, metavar="RANKS", help="default: the recipe's ranks")
    plan.add_argument(
        "--gpu-memory", metavar="SIZE", help="of memory: what a rank has, like 80GiB; default: asked here"
    )
    plan.add_argument(
        "--host-memory",
        metavar="SIZE",
        help="of memory: what a machine with GPUs has; default: asked here, as GPUs are",
    )
    plan.add_argument("--vocab-size", type=int, help="where the recipe adopts a tokenizer")
    plan.add_argument("--flops", type=float, help="of compute: a budget, like 1e21")
    plan.add_argument("--gpu-hours", type=float, help="of compute: a budget, instead of --flops")
    plan.add_argument("--gpu", choices=sorted(PEAK_FLOPS), default="h100", help="its dense bf16 peak; default: h100")
    plan.add_argument("--mfu", type=float, default=0.45, help="share of that peak that is reached; default: 0.45")
    plan.add_argument("--price", type=float, help="of a GPU hour")
    plan.add_argument("--batch-tokens", type=int, default=2**19, help="of a budget's steps; default: 524,288")
    of_a_store(plan, json=True)
    plan.set_defaults(run_command=lambda options: PLANS[options.what](options))


def plan_gate(asked: argparse.Namespace) -> int:
    """Print what the recipe's gate needs and how often it errs, by the item records of a run."""
    from lifecycle import recipes
    from lifecycle.evaluation.items import read_items
    from lifecycle.evaluation.metrics import measured
    from lifecycle.report import plan

    gate = recipes.load(asked.recipe or "tiny", asked.settings).gate
    run = find_run(existing_store(asked.store), asked.run)
    reports = {record.stage: Path(record.path) for record in run.stages if record.kind == "EvalReport"}
    if "evaluate" not in reports:
        raise InputError(f"expected a run with an evaluation as the pilot, found none in {run.name}. Name another run.")
    pilots = [measured(read_items(reports[name])) for name in ("evaluate", "evaluate_live") if name in reports]
    data = plan.plan(
        gate.rules,
        pilots[0],
        pilots[1] if len(pilots) == 2 else None,
        alpha=1 - gate.confidence,
        looks=gate.looks,
        histories=asked.histories,
    )
    source = f"{run.name}, paired with what was live" if len(pilots) == 2 else f"{run.name} alone"
    _print(asked, data, plan.screen(data, source))
    return 0


def plan_memory(asked: argparse.Namespace) -> int:
    """Print what a rank of the recipe's pretraining holds, and which ways of running it fit."""
    from lifecycle import recipes  # every stage: `show` must not wait for them
    from lifecycle.stages.pretrain import host_of, memory_run

    _check_numbers(asked)
    recipe = recipes.load(asked.recipe or "tiny", asked.settings)
    planned = _planned(recipe, asked.vocab_size)
    config = planned.config
    host = host_of(config)
    if asked.world_size:
        config = config.model_copy(
            update={"ranks": asked.world_size, "launch": config.launch.model_copy(update={"nodes": 1})}
        )
        host = host._replace(node=replace(host.node, ranks=min(host.node.ranks, asked.world_size)))
    if asked.host_memory:
        host = host._replace(bytes=size_of(asked.host_memory))
    has = Memory(size_of(asked.gpu_memory), "cuda") if asked.gpu_memory else memory_of_a_rank(config.ranks)
    if config.device_memory and not asked.gpu_memory:  # of whatever this machine computes on, as the stage reads it
        has = has._replace(bytes=size_of(config.device_memory))
    if has.bytes <= (outside := OUTSIDE[has.device]):
        raise InputError(
            f"expected a rank to have more than the {outside / GIB:.1f} GiB outside of torch's allocator, found "
            f"{has.bytes / GIB:.1f}. Give what it has, like --gpu-memory 80GiB, or plan fewer ranks on this machine."
        )
    sizes = {"max_seq_len": planned.max_seq_len, "vocab_size": planned.vocab_size}
    run = memory_run(config, **sizes, device=has.device, model=planned.model)
    speeds = Speeds(flops=PEAK_FLOPS[asked.gpu] * asked.mfu)
    # The memory of machines elsewhere is not known; what they would need is shown all the same.
    is_known = bool(asked.host_memory or config.host_memory or not asked.gpu_memory)
    judged = host if has.device == "cuda" and is_known else None
    found = options(run, available=has.bytes, device=has.device, speeds=speeds, host=judged)
    number = 2 if recipe.evaluate.precision == "bf16" else FP32
    generated = generation(run, items=recipe.evaluate.batch_items, number=number)
    data = memory.plan(run, found, available=has.bytes, device=has.device, generated=generated)
    if has.device == "cuda":
        data["host"] = memory.host(run, host.node, available=host.bytes if is_known else None)
    _print(asked, data, memory.screen(data))
    return 0


def plan_compute(asked: argparse.Namespace) -> int:
    """Print how a budget is best spent; of a recipe, what it costs and how far from that it is."""
    if (asked.flops is not None) + (asked.gpu_hours is not None) + (asked.recipe is not None) != 1:
        raise InputError(
            "expected one budget or a recipe, found none or more. Give --flops 1e21, --gpu-hours 64 or --recipe NAME."
        )
    budget = asked.gpu_hours if asked.flops is None else asked.flops
    if budget is not None and not 0 < budget < math.inf:
        raise InputError(f"expected a budget above 0, found {budget}. Give --flops 1e21 or --gpu-hours 64.")
    _check_numbers(asked)
    machine = Machine(asked.world_size or 8, PEAK_FLOPS[asked.gpu], asked.mfu, asked.price)
    if asked.recipe is None:
        hours = asked.gpu_hours
        flops = asked.flops or flops_of_hours(hours, peak_flops=machine.peak_flops, mfu=machine.mfu)
        data = compute.split(flops, machine, batch_tokens=asked.batch_tokens)
        shown = compute.split_screen(data, machine)
    else:
        from lifecycle import recipes

        recipe = recipes.load(asked.recipe, asked.settings)
        planned = _planned(recipe, asked.vocab_size)
        machine = machine._replace(gpus=asked.world_size or planned.config.world_size)
        steps, rows = planned.config.steps(planned.max_seq_len), planned.config.batch_rows
        sizes = {"vocab_size": planned.vocab_size, "max_seq_len": planned.max_seq_len}
        data = compute.of_recipe(planned.model, machine, steps=steps, batch_rows=rows, **sizes)
        shown = compute.recipe_screen(data, recipe.name, machine)
    _print(asked, data, shown)
    return 0


def _check_numbers(asked: argparse.Namespace) -> None:
    """Raise InputError for numbers that nothing can be planned with."""
    if not 0 < asked.mfu <= 1:
        raise InputError(f"expected --mfu above 0 and at most 1, found {asked.mfu}. 0.4 is a good run.")
    if asked.price is not None and not 0 <= asked.price < math.inf:
        raise InputError(f"expected --price of at least 0, found {asked.price}. Give that of a GPU hour, like 2.")
    counts = {"--world-size": asked.world_size, "--vocab-size": asked.vocab_size, "--batch-tokens": asked.batch_tokens}
    for name, number in counts.items():
        if number is not None and number < 1:
            raise InputError(f"expected {name} of at least 1, found {number}. Leave it out for the default.")


class _Planned(NamedTuple):
    """A recipe's pretraining, with the sizes that other stages have the home of."""

    config: "PretrainConfig"
    model: Model
    vocab_size: int
    max_seq_len: int


def _planned(recipe: "LifecycleConfig", said: int | None) -> _Planned:
    """What a recipe pretrains; `said` is the vocabulary where its tokenizer is adopted."""
    from lifecycle.stages.tokenizer import TokenizerConfig

    stages = recipe.pretraining
    if stages is None:
        raise ConfigError(
            f"expected a recipe that pretrains, found {recipe.name!r}, which takes its base as it is. Name another."
        )
    length = stages.shards.max_seq_len
    if isinstance(stages.pretrain.model, OfTheBase):
        assert recipe.base is not None, "a recipe's own check"
        foreign.check_names(recipe.base.source)
        model, rows = foreign.shape_of(recipe.base.source), foreign.read_config(recipe.base.source)["vocab_size"]
        return _Planned(stages.pretrain, model, rows, length)
    vocab_size = stages.tokenizer.vocab_size if isinstance(stages.tokenizer, TokenizerConfig) else None
    if (vocab_size := said or vocab_size) is None:
        raise ConfigError("expected to know the vocabulary, found a recipe that adopts a tokenizer. Give --vocab-size.")
    return _Planned(stages.pretrain, stages.pretrain.model, vocab_size, length)


def _print(asked: argparse.Namespace, data: Any, screen: RenderableType) -> None:
    if asked.json:
        print(json.dumps(data, indent=1), flush=True)
    else:
        Console(highlight=False, soft_wrap=True).print(screen)


PLANS = {"gate": plan_gate, "memory": plan_memory, "compute": plan_compute}
