"""lm-evaluation-harness as a library: its tasks, and their rows as requests. `harness_grading` grades the answers.

The harness is an optional extra and takes 13 s to import, so it is imported where it is used, by name. Its own model
class, request cache and data loader are not used; its Jinja templates are rendered in a sandbox, under a time limit.
"""

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from types import FrameType
from typing import Any

import orjson
import regex
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lifecycle.data.jsonl import Row
from lifecycle.errors import InputError

OPEN = "\x00chat"
RENDER_SECONDS = 600
REGEX_SECONDS = 1.0
# What our engine does with an answer. Anything else would change it, and be passed over without a word.
KNOWN_SETTINGS = {"until", "do_sample", "temperature", "max_gen_toks", "max_new_tokens", "max_tokens"}
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens")  # the first that is there counts, as in the harness

Docs = dict[str, list[dict[str, Any]]]


def library(name: str) -> Any:
    """A module of lm-evaluation-harness."""
    try:
        return import_module(f"lm_eval.{name}")
    except ModuleNotFoundError as error:
        raise InputError(
            f"expected lm-evaluation-harness for a suite of kind 'harness', found {error}. "
            "Install it: pip install 'llm-lifecycle[harness]'."
        ) from error


def shipped_tasks(name: str) -> dict[str, Any]:
    """The task of this name, or every task of a group or tag, its data from the Hugging Face cache."""
    manager = library("tasks").TaskManager()
    if name not in manager.all_tasks:
        raise InputError(f"expected a task of lm-evaluation-harness, found {name!r}. See `lm_eval ls tasks`.")
    try:
        with sandboxed_templates():
            tasks: dict[str, Any] = manager.load([name])["tasks"]
    except (ConnectionError, FileNotFoundError) as error:
        raise InputError(
            f"expected the data of {name!r} in the Hugging Face cache (collecting uses no network), found: {error}. "
            "Load it once with `datasets.load_dataset`, or give the task as a local file with its rows."
        ) from error
    return tasks


def local_task(said: dict[str, Any], docs: Docs) -> Any:
    """A task from what its file says and the rows of its splits; nothing is loaded and no code is run."""
    _only_known_names(said)
    with sandboxed_templates(), rows_instead_of_download(docs):
        return task_of(said)


def requests(task: Any, *, chat: bool, num_fewshot: int | None, seed: int, system: str | None) -> Iterator[Row]:
    """Each of the task's rows as what is sealed of it: its own words, its requests, and what grading needs."""
    _can_be_asked(task)
    if num_fewshot is not None and task.get_config("num_fewshot") != 0:
        task.set_config(key="num_fewshot", value=num_fewshot)
    task.set_fewshot_seed(seed=seed)
    with sandboxed_templates(), time_limit(RENDER_SECONDS, task.task_name):
        task.build_all_requests(
            system_instruction=system,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            chat_template=_as_data if chat else None,
        )
        by_row: dict[int, list[Any]] = {}
        for instance in task.instances:
            by_row.setdefault(instance.doc_id, []).append(instance)
        for number, instances in by_row.items():
            yield _row(task, number, sorted(instances, key=lambda instance: instance.idx))


def left_out(task: Any) -> tuple[str, ...]:
    """Metrics that say nothing about a single item, or of which less is better: they are not graded."""
    better = task.higher_is_better()
    per_item = {"perplexity", "bits_per_byte"}
    corpus = {"word_perplexity", "byte_perplexity", "f1", "mcc", "brier_score", "likelihood", "bleu", "chrf", "ter"}
    return tuple(sorted(name for name in better if name in corpus or (not better[name] and name not in per_item)))


@contextmanager
def sandboxed_templates() -> Iterator[None]:
    """Let the harness render its templates where they cannot reach attributes of Python or change a row."""
    utils = library("utils")
    before = utils.env
    utils.env = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    utils.env.filters["regex_replace"] = _regex_replace
    try:
        yield
    finally:
        utils.env = before


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Raise InputError after so many seconds, in the main thread: a template or a pattern can go on for ever."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise InputError(
            f"{what}: expected its rows within {seconds} s, found them unfinished. Simplify its templates."
        )

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _row(task: Any, number: int, instances: Sequence[Any]) -> Row:
    doc = instances[0].doc
    try:
        doc = orjson.loads(orjson.dumps(doc))
    except TypeError as error:
        raise InputError(
            f"{task.task_name}, row {number}: expected text and numbers, found: {error}. Tasks with images or sound "
            "cannot be asked."
        ) from error
    kind = task.OUTPUT_TYPE
    return {
        "id": str(number),
        "messages": [{"role": "user", "content": _own_words(task, doc)}],
        "task": task.task_name,
        "doc": doc,
        "choices": len(task.doc_to_choice(doc)) if kind == "multiple_choice" else 0,
        "requests": [_request(instance) for instance in instances],
    }


def _own_words(task: Any, doc: dict[str, Any]) -> str:
    """What the row asks, without examples and template: training data is cleaned of it."""
    text = task.doc_to_target(doc) if task.OUTPUT_TYPE == "loglikelihood_rolling" else task.doc_to_text(doc)
    if isinstance(text, int):  # choices that are several beginnings
        text = task.doc_to_choice(doc)[text]
    return str(text)


def _request(instance: Any) -> dict[str, Any]:
    if instance.request_type == "loglikelihood_rolling":
        return {"prompt": "", "continuation": instance.args[0]}
    context, more = instance.args[0], instance.args[1]
    prompt = _turns(context) if context.startswith(OPEN) else context
    if instance.request_type == "loglikelihood":
        return {"prompt": prompt, "continuation": more}
    stop = more.get("until") or []
    limit = next((int(more[name]) for name in LIMITS if more.get(name)), None)
    stops = [stop] if isinstance(stop, str) else list(stop)
    return {"prompt": prompt, "stop": [text for text in stops if text], "max_new_tokens": limit}


def _as_data(messages: Sequence[dict[str, str]], *, add_generation_prompt: bool) -> str:
    """The turns themselves instead of text: our own renderer makes ids of them. The last may be an answer begun."""
    return OPEN + json.dumps(list(messages))


def _turns(context: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(context.removeprefix(OPEN))
    return found


def _can_be_asked(task: Any) -> None:
    """The task asks for what our engine does; another way of answering would be passed over without a word."""
    if not hasattr(task, "OUTPUT_TYPE") or not isinstance(task, library("api.task").ConfigurableTask):
        raise InputError(f"{task.task_name}: expected a task in YAML, found one in Python. It cannot be asked.")
    if getattr(task, "MULTIMODAL", False) or getattr(task, "UNSAFE_CODE", False):
        raise InputError(f"{task.task_name}: expected text to be graded, found images, sound or code to run.")
    said = task.get_config("generation_kwargs") or {}
    odd = sorted(set(said) - KNOWN_SETTINGS)
    if task.OUTPUT_TYPE == "generate_until" and (odd or said.get("do_sample")):
        raise InputError(
            f"{task.task_name}: expected greedy answers (until, max_gen_toks, do_sample: false), found "
            f"{odd or 'do_sample: true'} in generation_kwargs. Use a local copy of the task without them, or a suite "
            "of kind pass_at_k."
        )


def _only_known_names(said: dict[str, Any]) -> None:
    """Metrics, aggregations and samplers are the harness's own: it fetches what it does not know from the network."""
    registry, samplers = library("api.registry"), library("api.samplers")
    library("api.metrics")
    for metric in said.get("metric_list") or []:
        if metric["metric"] not in registry.METRIC_REGISTRY:
            raise InputError(
                f"{said['task']}: expected a metric of {', '.join(sorted(registry.METRIC_REGISTRY))}, found "
                f"{metric['metric']!r}. Others are fetched by name, and are code."
            )
        aggregation = metric.get("aggregation", "mean")
        if not isinstance(aggregation, str) or aggregation not in registry.AGGREGATION_REGISTRY:
            raise InputError(f"{said['task']}: expected an aggregation by name, found {aggregation!r}.")
    sampler = (said.get("fewshot_config") or {}).get("sampler", "default")
    if sampler not in samplers.SAMPLER_REGISTRY:
        raise InputError(
            f"{said['task']}: expected a sampler of {sorted(samplers.SAMPLER_REGISTRY)}, found {sampler!r}."
        )


@contextmanager
def rows_instead_of_download(docs: Docs, *, done: bool = False) -> Iterator[None]:
    """Tasks built inside read these rows. `done`: they are already as the task makes them, and the only split."""
    api = library("api.task")
    before = api.ConfigurableTask.download

    def download(task: Any, *args: Any, **kwargs: Any) -> None:
        splits = {task.task_name: docs[task.task_name]} if done else docs
        task.dataset = {split: api.datasets.Dataset.from_list(rows) for split, rows in splits.items()}
        if done:
            config = task.config
            config.process_docs, config.training_split, config.validation_split = None, None, None
            config.test_split = task.task_name
            config.num_fewshot = 0
            task.fewshot_cfg.split, task.fewshot_cfg.samples, task.fewshot_cfg.process_docs = None, [], None

    api.ConfigurableTask.download = download
    try:
        yield
    finally:
        api.ConfigurableTask.download = before


def task_of(said: dict[str, Any]) -> Any:
    """A task from what its file says."""
    settings = {key: value for key, value in said.items() if key not in ("tag", "dataset_kwargs", "dataset_path")}
    return library("api.task").ConfigurableTask(config=deepcopy(settings))  # it changes what it is given


def _regex_replace(string: str, pattern: str, repl: str, count: int = 0) -> str:
    """The harness's template filter, with a time limit: a pattern can take longer than the universe is old."""
    return str(regex.sub(pattern, repl, string, count=count, timeout=REGEX_SECONDS))
