"""What each rank holds of a training, by the names of the network: one form for every ZeRO stage and number of ranks.

ZeRO 1 and 2 lay the tensors of a group end to end and cut the whole in equal parts, ZeRO 3 cuts every tensor, ZeRO 0
cuts none. Here each rank says `these numbers of this tensor`, as `torch.distributed.checkpoint` and DeepSpeed's
universal checkpoints do. Ranks that are cut in another way read the numbers that are theirs now, and no others: what
is read and written in all is the state once, 12 bytes a parameter under Adam, whatever the number of ranks.

<folder>/state-00003.safetensors    "weight.<tensor>", "exp_avg.<tensor>", ..: numbers that follow one another in the
                                    flattened tensor; in its metadata where they begin. "step.<tensor>": one number.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

WEIGHT = "weight"
BEGINS, LOSS_SCALE = "begins", "loss_scale"
FILES = "state-*.safetensors"


@dataclass(frozen=True)
class Fragment:
    """Numbers `begin` up to `begin + len(weight)` of a flattened tensor, and where this rank keeps them."""

    name: str
    begin: int
    weight: Tensor
    """fp32, a view of what the optimizer steps on."""
    stepped: Tensor
    """What the optimizer steps on: the key of its state."""
    at: int
    """Where in that."""

    def part(self, state: Tensor) -> Tensor:
        """This fragment's numbers of an optimizer state as large as what is stepped on."""
        return state.reshape(-1).narrow(0, self.at, len(self.weight))


def held_by_this_rank(engine: Any) -> list[Fragment]:
    """What this rank has to be given to go on."""
    names = {parameter: name for name, parameter in engine.module.named_parameters() if parameter.requires_grad}
    match engine.zero_optimization_stage():
        case 0:
            return [Fragment(name, 0, tensor.data.view(-1), tensor, 0) for tensor, name in names.items()]
        case 1 | 2:
            return list(_of_flat_groups(engine.optimizer, names))
        case _:
            return list(_of_cut_tensors(engine.optimizer, names))


def _of_flat_groups(zero: Any, names: Mapping[Any, str]) -> Iterator[Fragment]:
    for group, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
        for tensor in group:
            if (mapping := tensor._hp_mapping) is not None:  # else it is all on other ranks
                here, there = mapping.hp_fragment_address, mapping.lp_fragment_address
                yield Fragment(
                    names[tensor], there.start, flat.data.narrow(0, here.start, here.numel), flat, here.start
                )


def _of_cut_tensors(zero: Any, names: Mapping[Any, str]) -> Iterator[Fragment]:
    for tensor, name in names.items():
        group, at, padded = zero.grad_position[zero.get_param_id(tensor)]
        begin = dist.get_rank() * padded
        numbers = min(padded, tensor.ds_numel - begin)  # the last ranks' parts are filled up, or nothing but filling
        if numbers > 0:
            flat = zero.fp32_partitioned_groups_flat[group]
            yield Fragment(name, begin, flat.data.narrow(0, at, numbers), flat, at)


def written_by_this_rank(engine: Any) -> list[Fragment]:
    """What of it this rank saves: all ranks together save every number once."""
    held = held_by_this_rank(engine)
    if engine.zero_optimization_stage() > 0:
        return held
    rank, ranks = dist.get_rank(), dist.get_world_size()  # here everybody has everything
    shares = ((one, len(one.weight) * rank // ranks, len(one.weight) * (rank + 1) // ranks) for one in held)
    return [
        Fragment(one.name, first, one.weight[first:end], one.stepped, first)
        for one, first, end in shares
        if first < end
    ]


def save(engine: Any, folder: Path) -> Path:
    """Write this rank's file; its path. Raises OSError when it cannot be written."""
    tensors: dict[str, Tensor] = {}
    begins = {}
    for one in written_by_this_rank(engine):
        begins[one.name] = one.begin
        tensors[f"{WEIGHT}.{one.name}"] = one.weight
        for key, value in engine.basic_optimizer.state.get(one.stepped, {}).items():
            if isinstance(value, Tensor) and value.numel() == one.stepped.numel() and value.ndim:
                tensors[f"{key}.{one.name}"] = one.part(value.data)
            else:  # Adam's count of steps
                tensors[f"{key}.{one.name}"] = torch.as_tensor(value).clone()
    path = folder / f"state-{dist.get_rank():05d}.safetensors"
    metadata = {BEGINS: json.dumps(begins), LOSS_SCALE: json.dumps(_plain(_loss_scaler(engine)))}
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    return path


def _loss_scaler(engine: Any) -> dict[str, Any]:
    """What DeepSpeed's loss scaler remembers; nothing but in fp16."""
    return vars(engine.optimizer.loss_scaler) if engine.fp16_enabled() else {}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def bytes_to_save(engine: Any) -> int:
    """About how many bytes all ranks will write: the weights in fp32, and as much again for each state of Adam."""
    tensors = [tensor for tensor in engine.module.parameters() if tensor.requires_grad]
    numbers = sum(int(getattr(tensor, "ds_numel", tensor.numel())) for tensor in tensors)  # ZeRO 3 empties tensors
    return 3 * 4 * numbers


def load(engine: Any, folder: Path) -> None:
    """Give this rank what the files hold of its fragments, and every rank the weights it computes with. A collective.

    Raises ValueError when the files do not hold every number of a fragment.
    """
    zero, stage, optimizer = engine.optimizer, engine.zero_optimization_stage(), engine.basic_optimizer
    if stage == 3:
        zero.checkpoint_event_prologue()  # no tensor is whole anywhere
    optimizer.state.clear()
    with ExitStack() as opened:
        saved = Saved(folder, opened)
        _loss_scaler(engine).update(saved.loss_scale)
        for one in held_by_this_rank(engine):
            for key in saved.keys_of(one.name):
                _give(optimizer.state[one.stepped], key, one, saved)
    if stage in (1, 2):
        zero.update_lp_params()
    if stage == 3:
        for group in range(len(zero.fp16_groups)):
            zero._reassign_or_swap_out_partitioned_parameters(group)
        zero.checkpoint_event_epilogue()


def _give(state: dict[str, Any], key: str, one: Fragment, saved: "Saved") -> None:
    if key == WEIGHT:
        saved.read_into(one.weight, key, one)
    elif (scalar := saved.scalar(key, one.name)) is not None:
        state[key] = scalar.to(one.stepped.device)
    else:
        if key not in state:  # an optimizer makes its state in its first step, and here there was one already
            state[key] = torch.zeros_like(one.stepped.data)
        saved.read_into(one.part(state[key]), key, one)


class Saved:
    """The files of one checkpoint, by what they hold. Only what is asked for is read."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self.pieces: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        self.scalars: dict[str, Tensor] = {}
        self.loss_scale: dict[str, Any] = {}
        self.keys: dict[str, list[str]] = defaultdict(list)
        for path in sorted(folder.glob(FILES)):
            file = opened.enter_context(safe_open(path, framework="pt"))
            begins, self.loss_scale = (json.loads(file.metadata()[key]) for key in (BEGINS, LOSS_SCALE))
            for full in file.keys():  # noqa: SIM118  # it is no dict
                key, name = full.split(".", 1)
                piece = file.get_slice(full)
                if key not in self.keys[name]:
                    self.keys[name].append(key)
                if piece.get_shape():
                    self.pieces[full].append((begins[name], piece))
                else:
                    self.scalars[full] = file.get_tensor(full)

    def keys_of(self, name: str) -> list[str]:
        """`weight`, and the optimizer's states; ValueError when nothing of the tensor was saved."""
        if name not in self.keys:
            raise ValueError(f"expected the tensor {name}, found {', '.join(sorted(self.keys)) or 'none'}")
        return self.keys[name]

    def scalar(self, key: str, name: str) -> Tensor | None:
        return self.scalars.get(f"{key}.{name}")

    def read_into(self, target: Tensor, key: str, one: Fragment) -> None:
        """Fill `target` with the fragment's numbers."""
        end, found = one.begin + len(target), 0
        for begin, piece in self.pieces[f"{key}.{one.name}"]:
            first, last = max(one.begin, begin), min(end, begin + piece.get_shape()[0])
            if first < last:
                target[first - one.begin : last - one.begin] = piece[first - begin : last - begin]
                found += last - first
        if found != len(target):
            raise ValueError(f"{key}.{one.name}: expected numbers {one.begin} to {end}, found {found} of them")
