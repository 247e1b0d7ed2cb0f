"""What safetensors files say they hold, checked against their sizes before anything is allocated for it.

The format: eight bytes with the length of a JSON header, the header, the tensors end to end
(https://github.com/huggingface/safetensors#format).
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from lifecycle.errors import InputError
from lifecycle.model.foreign import read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
LENGTH_BYTES, HEADER_BYTES = 8, 100 * 2**20  # the format's own limit
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8}
"""Bytes of a number, of the types that weights are adopted in."""
AGAIN = "Download the file again."


class Tensor(NamedTuple):
    """One tensor of a file, as its header has it."""

    dtype: str
    shape: tuple[int, ...]


def weights_of(folder: Path) -> dict[Path, dict[str, Tensor]]:
    """Every weight file of a model folder with its tensors: each in one file, and all that are promised there."""
    index = folder / INDEX
    if not index.exists():
        if not (folder / SINGLE).is_file():
            raise InputError(f"{folder}: expected weights in {SINGLE} or {INDEX}, found neither. Download them.")
        return {folder / SINGLE: read_header(folder / SINGLE)}
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index}: expected a weight_map with a file for each tensor, found none. {AGAIN}")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors") or not (folder / name).is_file():
            raise InputError(f"{index}: expected the name of a safetensors file beside it, found {name!r}. {AGAIN}")
    found = {folder / name: read_header(folder / name) for name in names}
    held = {(tensor, path.name) for path, tensors in found.items() for tensor in tensors}
    if odd := sorted(held ^ {(tensor, str(name)) for tensor, name in weight_map.items()}):
        raise InputError(f"{index}: expected each tensor in the file it names, found {odd[0]} in one only. {AGAIN}")
    return found


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of one file. They cover its bytes without a gap: a file cut short or padded is not one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if size < LENGTH_BYTES or not 0 < length <= min(HEADER_BYTES, size - LENGTH_BYTES):
            raise InputError(
                f"{path}: expected a header within its {size:,} bytes and {HEADER_BYTES:,}, found one said to have "
                f"{length:,}. {AGAIN}"
            )
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: expected a header in JSON, found {type(error).__name__}. {AGAIN}") from error
    if not isinstance(header, dict):
        raise InputError(f"{path}: expected an object as header, found a {type(header).__name__}. {AGAIN}")
    header.pop("__metadata__", None)
    tensors, at = {}, 0
    for name, (begin, end, tensor) in sorted(
        ((name, _entry(path, name, entry)) for name, entry in header.items()), key=lambda item: item[1][:2]
    ):
        if begin != at:
            raise InputError(f"{path}: expected {name} to begin at byte {at:,} of the data, found {begin:,}. {AGAIN}")
        tensors[name], at = tensor, end
    if LENGTH_BYTES + length + at != size:
        raise InputError(
            f"{path}: expected {LENGTH_BYTES + length + at:,} bytes by its header, found {size:,}: it was cut short or "
            f"added to. {AGAIN}"
        )
    if not tensors:
        raise InputError(f"{path}: expected tensors, found none. {AGAIN}")
    return tensors


def _entry(path: Path, name: str, entry: Any) -> tuple[int, int, Tensor]:
    """Begin, end and kind of one tensor, if its bytes are as many as its shape asks for."""
    try:
        shape, (begin, end) = list(entry["shape"]), entry["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
            raise ValueError("numbers that are none")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected shape and data_offsets of {name}, found {str(entry)[:80]}. {AGAIN}"
        ) from error
    if entry.get("dtype") not in SIZES:
        raise InputError(
            f"{path}: expected weights in {', '.join(SIZES)}, found {name} in {entry.get('dtype')!r}. Adopt the model "
            "in one of these."
        )
    wanted = math.prod(shape) * SIZES[entry["dtype"]]
    if end - begin != wanted:
        raise InputError(f"{path}: expected {wanted:,} bytes for {name} {shape}, found {end - begin:,}. {AGAIN}")
    return begin, end, Tensor(entry["dtype"], tuple(shape))
