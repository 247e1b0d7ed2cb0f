"""A task file of lm-evaluation-harness as data: its YAML read without code, its rows from files in its own folder.

The harness itself reads such a file with `!function` tags that import Python beside it, data loaders that run scripts,
and metrics that are fetched by name. None of that is read here: what a task file may say is the list in `KEYS`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import orjson
import yaml

from lifecycle.data.jsonl import Row, read_lines
from lifecycle.errors import InputError

KEYS = frozenset(
    {
        "task",
        "task_alias",
        "tag",
        "dataset_path",
        "dataset_kwargs",
        "training_split",
        "validation_split",
        "test_split",
        "fewshot_split",
        "doc_to_text",
        "doc_to_target",
        "doc_to_choice",
        "description",
        "target_delimiter",
        "fewshot_delimiter",
        "fewshot_config",
        "num_fewshot",
        "metric_list",
        "output_type",
        "generation_kwargs",
        "repeats",
        "filter_list",
        "should_decontaminate",
        "doc_to_decontamination_query",
        "gen_prefix",
        "metadata",
    }
)
FEWSHOT_KEYS = frozenset(
    {
        "sampler",
        "split",
        "samples",
        "fewshot_indices",
        "doc_to_text",
        "doc_to_choice",
        "doc_to_target",
        "gen_prefix",
        "fewshot_delimiter",
        "target_delimiter",
    }
)
MAX_BYTES = 2**20  # of a task file: text that is meant to be read


def read_task(path: Path) -> dict[str, Any]:
    """What a task file says, its includes merged in, or InputError. `data_files` are still relative to its folder."""
    folder = path.resolve().parent
    said = _merged(path, folder, ())
    if odd := sorted(set(said) - KEYS):
        _refuse(path, f"the keys {', '.join(sorted(KEYS))}", f"{odd}", "They run code, or fetch data. Remove them")
    if not isinstance(said.get("task"), str):
        _refuse(path, "a name under `task`", repr(said.get("task")), "A group is several tasks: name each of its files")
    if said.get("dataset_path") != "json":
        found = repr(said.get("dataset_path"))
        _refuse(path, "dataset_path: json", found, "Save the rows as JSON lines and name them in dataset_kwargs")
    fewshot = said.get("fewshot_config") or {}
    if odd := sorted(set(fewshot) - FEWSHOT_KEYS):
        _refuse(path, f"a fewshot_config of {', '.join(sorted(FEWSHOT_KEYS))}", f"{odd}", "Remove them")
    if not isinstance(fewshot.get("samples", []), list):
        _refuse(path, "fewshot_config.samples as a list of rows", repr(fewshot["samples"]), "Write the rows out")
    for metric in said.get("metric_list") or []:
        if not isinstance(metric, dict) or not isinstance(metric.get("metric"), str) or metric.get("hf_evaluate"):
            _refuse(path, "metrics by name", repr(metric), "Remove hf_evaluate: it fetches code")
    return said


def data_files(path: Path) -> dict[str, list[Path]]:
    """The files of each split of a task file, all within its folder."""
    folder = path.resolve().parent
    said = (read_task(path).get("dataset_kwargs") or {}).get("data_files")
    if not isinstance(said, dict) or not said:
        _refuse(path, "dataset_kwargs.data_files with a file for each split", repr(said), "Write {test: items.jsonl}")
    return {
        str(split): [_within(folder, name, path) for name in (names if isinstance(names, list) else [names])]
        for split, names in said.items()
    }


def task_files(path: Path) -> list[Path]:
    """Every file that a task file is made of, itself left out: they count in the identity of what is collected."""
    included = [file for file in _includes(path, path.resolve().parent, ()) if file != path.resolve()]
    return [*included, *(file for files in data_files(path).values() for file in files)]


def task_rows(path: Path) -> dict[str, list[Row]]:
    """The rows of each split of a task file: JSON objects, one a line or in one array, with any fields."""
    return {split: [row for file in files for row in _rows(file)] for split, files in data_files(path).items()}


def _rows(file: Path) -> list[Row]:
    if file.suffix == ".json" and file.read_bytes().lstrip()[:1] == b"[":
        try:
            rows: Any = orjson.loads(file.read_bytes())
        except orjson.JSONDecodeError as error:
            raise InputError(f"{file}: expected JSON, found: {error}. Correct the file.") from error
        faults = [f"element {n}" for n, row in enumerate(rows) if not isinstance(row, dict)]
    else:
        lines = list(read_lines(file))
        rows, faults = (
            [line.row for line in lines],
            [f"line {line.number}: {line.fault}" for line in lines if line.fault],
        )
    if faults or not rows:
        found = faults[0] if faults else "none"
        raise InputError(f"{file}: expected rows that are JSON objects, found {found}. Correct the file.")
    objects: list[Row] = rows
    return objects


def _merged(path: Path, folder: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """A file's keys over those of what it includes, as lm-evaluation-harness merges them."""
    said = _load(path)
    merged: dict[str, Any] = {}
    for file in _included(path, said, folder, above):
        merged |= _merged(file, folder, (*above, path.resolve()))
    return merged | {key: value for key, value in said.items() if key != "include"}


def _includes(path: Path, folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    yield path.resolve()
    for file in _included(path, _load(path), folder, above):
        yield from _includes(file, folder, (*above, path.resolve()))


def _included(path: Path, said: dict[str, Any], folder: Path, above: tuple[Path, ...]) -> list[Path]:
    names = said.get("include") or []
    files = [_within(folder, name, path) for name in (names if isinstance(names, list) else [names])]
    if circle := [file for file in files if file in (*above, path.resolve())]:
        _refuse(path, "includes that end", f"{circle[0].name} includes itself", "Break the circle")
    return files


def _load(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        if len(content) > MAX_BYTES:
            _refuse(path, f"at most {MAX_BYTES} bytes", f"{len(content)}", "Move the rows to a JSON lines file")
        if b"&" in content and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content)):
            _refuse(path, "no aliases", "one", "Write the value out: aliases can grow without bound")
        said = yaml.safe_load(content)
    except OSError as error:
        raise InputError(f"{path}: expected a task file, found: {error}. Correct the path.") from error
    except yaml.constructor.ConstructorError as error:
        raise InputError(
            f"{path}: expected plain YAML, found {error.problem}. A tag such as !function runs code; what a task needs "
            "must be said in its templates and filters."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected YAML, found: {error}. Correct the file.") from error
    if not isinstance(said, dict):
        _refuse(path, "keys and values", type(said).__name__, "See the harness's task guide")
    return said


def _within(folder: Path, name: object, path: Path) -> Path:
    """A file in the task's folder. Links are followed first: one that leaves the folder is outside it."""
    file = (folder / str(name)).resolve() if isinstance(name, str) else None
    if file is None or not file.is_relative_to(folder) or not file.is_file():
        _refuse(path, f"files within {folder}", repr(name), "Put the file beside the task")
    return file


def _refuse(path: Path, expected: str, found: str, do: str) -> NoReturn:
    raise InputError(f"{path}: expected {expected}, found {found}. {do}.")
