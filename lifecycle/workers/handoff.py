"""Does a server say what the evaluation measured? `python -m lifecycle handoff [RUN]` runs this.

The model folder is started with `transformers serve` on loopback, as users would. Questions of the evaluation are asked
again over HTTP, and ids of the prompt, answer and number of tokens (the stop token is one) must be those on record. A
call of a tool is compared as the protocol writes it: our tokenizer folders say how a server reads one.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import transformers

from lifecycle.artifacts import EvalReport, Suites
from lifecycle.chat.definitions import apart
from lifecycle.chat.render import Renderer, load_renderer
from lifecycle.chat.structure import ASSISTANT, TOOL, Messages, Unrenderable, for_template
from lifecycle.data.jsonl import load_rows
from lifecycle.errors import InputError, LifecycleError, WorkerFailed
from lifecycle.evaluation.encode import digest
from lifecycle.evaluation.items import Item, read_items
from lifecycle.evaluation.kinds import sealed_suite
from lifecycle.evaluation.kinds.suite import Generate
from lifecycle.report.text import one_line
from lifecycle.workers.guard import die_with_parent

START_SECONDS, ANSWER_SECONDS = 120, 120
LOOPBACK = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no http_proxy between us and our own server
DIFFERS = 1
"""Exit code of a hand-over that is not exact, or of a folder with faults."""


class Question(NamedTuple):
    """A question of the evaluation with the record of its greedy answer."""

    messages: list[dict[str, Any]]
    record: Item


UNMEASURED = "unmeasured"


class Difference(NamedTuple):
    """Where serving parts from evaluation: `what` is 'prompt ids', 'answer' or 'tokens'.

    UNMEASURED: all else agrees, and a server does not say enough to compare the answer; `served` says why.
    """

    item: str
    what: str
    evaluated: object
    served: object


def questions(renderer: Renderer, report: EvalReport, suites: Suites, *, most: int) -> list[Question]:
    """Greedy answers on record to prompts of turns, taken evenly from all suites, at most `most`.

    Prompts in which somebody typed a special token are left out: a chat template refuses them, we read them as text.
    """
    found: list[list[Question]] = []
    records = {(item.suite, item.id): item for item in read_items(report.path) if item.mode == "greedy"}
    for name in sorted(suites.items):
        suite = sealed_suite(suites, name)
        rows = ((row, records.get((name, row["id"]))) for row in load_rows(suite.path))
        asked = ((ask, record) for row, record in rows if record is not None for ask in suite.asks(row)[:1])
        found.append([_question(ask, record) for ask, record in asked if _is_servable(renderer, ask, record)])
    share = -(-most // max(1, sum(map(bool, found))))
    return [question for own in found for question in own[:share]][:most]


def _is_servable(renderer: Renderer, ask: object, record: Item) -> bool:
    if not isinstance(ask, Generate) or isinstance(ask.prompt, str) or not ask.greedy or ask.stop:
        return False
    try:
        typed = renderer.typed(ask.prompt, generation_prompt=True)
    except Unrenderable:
        return False
    return typed is None and record.answer is not None and ask.prompt[-1]["role"] in ("user", TOOL)


def _question(ask: Any, record: Item) -> Question:
    return Question([dict(message) for message in ask.prompt], record)


def differences(folder: Path, asked: Sequence[Question], *, max_new_tokens: int) -> Iterator[list[Difference]]:
    """For each question, in what the served model parts from the record."""
    renderer = load_renderer(folder)
    with serving(folder) as url:
        for question, ids in zip(asked, prompts(folder, asked), strict=True):
            reply = _post(f"{url}/v1/chat/completions", folder, question.messages, max_new_tokens)
            usage, record = reply["usage"], question.record
            found = parted(
                question,
                ("prompt ids", record.prompt_digest, digest(ids)),
                ("prompt tokens", len(ids), usage["prompt_tokens"]),
                ("tokens", record.tokens, usage["completion_tokens"]),
            )
            yield found + _answers(renderer, question, reply["choices"][0]["message"], else_alike=not found)


def _answers(
    renderer: Renderer, question: Question, message: Mapping[str, Any], *, else_alike: bool
) -> list[Difference]:
    """The difference between the answer on record and the one served, if there is one."""
    answer, content = question.record.answer or "", message.get("content") or ""
    if not message.get("tool_calls"):
        hidden = renderer.without_specials(answer)
        if content == hidden != answer and else_alike:
            return _unmeasured(question, "a server without a parser for its calls leaves special tokens out")
        return parted(question, ("answer", answer, content))
    try:
        return parted(question, ("answer", answer, said(renderer, question.messages, message)))
    except Unrenderable as error:
        return _unmeasured(question, f"a call that the protocol cannot write: {error.reason}")


def _unmeasured(question: Question, why: str) -> list[Difference]:
    return [Difference(_name(question), UNMEASURED, question.record.answer, why)]


def said(renderer: Renderer, messages: Messages, message: Mapping[str, Any]) -> str:
    """The text of an answer that calls tools, as the protocol writes it, up to its stop token."""
    turn = {"role": ASSISTANT, "content": message.get("content") or None, "tool_calls": message["tool_calls"]}
    text = renderer.structure.text([*messages, turn])
    return text[len(renderer.structure.text(messages, generation_prompt=True)) : text.rindex(renderer.structure.stop)]


def prompts(folder: Path, asked: Sequence[Question]) -> Iterator[list[int]]:
    """The ids of each question, by the call that the server makes with the messages it is sent."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    for question in asked:
        messages, tools = for_template(question.messages)
        rendered = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, return_dict=True)
        yield list(rendered["input_ids"])


def faults(folder: Path, renderer: Renderer) -> list[str]:
    """What vLLM reads from a folder and would not find there, or would read otherwise than we do.

    It takes the network from config.json, the stop tokens from generation_config.json, and the template from
    chat_template.jinja, which wins over one in tokenizer_config.json.
    """
    names = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    if found := [f"expected {name}, found none" for name in names if not (folder / name).is_file()]:
        return found
    config, generation, tokenizer = (
        json.loads((folder / f"{name}.json").read_bytes())
        for name in ("config", "generation_config", "tokenizer_config")
    )
    stops = generation.get("eos_token_id")
    if renderer.protocol.stop_id not in (stops if isinstance(stops, list) else [stops]):
        found.append(f"expected the stop token {renderer.protocol.stop_id} in generation_config.json, found {stops}")
    if not config.get("architectures"):
        found.append("expected architectures in config.json, found none")
    if "auto_map" in config or "auto_map" in tokenizer:
        found.append("expected no auto_map, which would run code, found one")
    return found


def parted(question: Question, *pairs: tuple[str, object, object]) -> list[Difference]:
    """The pairs (what, evaluated, served) whose sides differ."""
    return [Difference(_name(question), *pair) for pair in pairs if pair[1] != pair[2]]


def _name(question: Question) -> str:
    return f"{question.record.suite}/{question.record.id}"


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server of this model folder on loopback; it ends with the block, or with this process."""
    if find_spec("openai") is None:
        raise InputError("expected transformers' server, found no package openai. pip install 'llm-lifecycle[serve]'.")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    options = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--no-trust-remote-code"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [*command, *options], env=environment, stdout=log, stderr=log, preexec_fn=die_with_parent
        )
        try:
            _wait_until_up(f"http://127.0.0.1:{port}/health", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()
            server.wait()


def _wait_until_up(url: str, server: subprocess.Popen[bytes], log: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            LOOPBACK.open(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    log.seek(0)
    said = log.read()[-1500:].decode(errors="replace")
    raise WorkerFailed(f"expected `transformers serve` to be up within {START_SECONDS} s, found:\n{said}")


def _post(url: str, folder: Path, messages: Messages, max_new_tokens: int) -> dict[str, Any]:
    turns, tools = apart(messages)
    body = {"model": str(folder), "messages": turns, "temperature": 0, "max_tokens": max_new_tokens}
    body |= {"tools": tools} if tools else {}
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with LOOPBACK.open(request, timeout=ANSWER_SECONDS) as response:
            found: dict[str, Any] = json.load(response)
            return found
    except urllib.error.HTTPError as error:
        said = error.read()[:500].decode(errors="replace")
        raise WorkerFailed(f"expected an answer from the server, found {error.code}: {said}") from error
    except OSError as error:
        raise WorkerFailed(
            f"expected an answer from the server within {ANSWER_SECONDS} s, found {error}. Is there memory for it?"
        ) from error


def main() -> int:
    """Print every difference and a last line that says how many questions were compared."""
    parser = argparse.ArgumentParser(prog="python -m lifecycle.workers.handoff", description=__doc__)
    for name in ("folder", "report", "suites"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--items", type=int, default=50)
    options = parser.parse_args()
    try:
        report = EvalReport.load(options.report)
        renderer = load_renderer(options.folder)
        if broken := faults(options.folder, renderer):
            print(*(f"the folder: {fault}" for fault in broken), sep="\n")
            print(f"0 questions asked: mend what a server would miss first ({options.folder})")
            return DIFFERS
        asked = questions(renderer, report, Suites.load(options.suites), most=options.items)
        if not asked:
            raise InputError("expected greedy answers to conversations on record, found none. Evaluate a chat suite.")
        limit = int(report.manifest.config["max_new_tokens"])
        different = unmeasured = 0
        for found in differences(options.folder, asked, max_new_tokens=limit):
            different += bool(found)
            unmeasured += any(one.what == UNMEASURED for one in found)
            for one in found:
                print(f"{one.item}: {one.what}: evaluated {one_line(one.evaluated)!r}, served {one_line(one.served)!r}")
    except LifecycleError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    equal = len(asked) - different
    print(f"{equal} of {len(asked)} questions: prompt ids, greedy answer and stop as evaluated ({options.folder})")
    if unmeasured:
        print(f"{unmeasured} UNMEASURED, which is no proof: the hand-over is not shown to be exact")
    return DIFFERS if different else 0


if __name__ == "__main__":
    sys.exit(main())
