"""A conversation with a model folder in the terminal: `python -m lifecycle talk` runs this on a checkpoint or release.

Ids come from the renderer that training and evaluation use, greedy answers are the evaluation's. No network.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import torch
import transformers

from lifecycle.chat import golden
from lifecycle.chat.calls import as_message
from lifecycle.chat.definitions import apart, together
from lifecycle.chat.render import load_renderer
from lifecycle.chat.structure import Unrenderable
from lifecycle.data.tool_definitions import read_definitions
from lifecycle.errors import InputError, LifecycleError
from lifecycle.report.text import shown

HELP = """\
/tokens      the conversation as the model sees it: ids and tokens, what training would supervise in [brackets]
/template    the chat template that the folder carries
/system TEXT say something before the conversation, and begin again        /reset   begin again
/tools FILE  define the tools in a JSON file (the OpenAI schema), and begin again; /tools alone: none
/greedy      the likeliest token each time        /sample T   draw at temperature T        /quit   (or Ctrl-D)
A line that ends in a backslash goes on in the next."""
REPLACEMENT = "�"


class Ended(NamedTuple):
    """An answer: its ids, and why it ended ('stop token', 'window full', 'interrupted')."""

    ids: list[int]
    why: str


class Talk:
    """One conversation with one model."""

    def __init__(self, folder: Path, *, temperature: float = 0.0, seed: int = 0) -> None:
        if not 0 <= temperature < float("inf"):
            raise InputError(f"expected a temperature of 0 or more, found {temperature}. Try --temperature 0.7")
        self.folder = folder
        self.renderer = load_renderer(folder)
        self.tokenizer, self.protocol = self.renderer.tokenizer, self.renderer.protocol
        golden.check(self.renderer, folder)
        transformers.utils.logging.disable_progress_bar()
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        ).eval()
        self.window = int(self.model.config.max_position_embeddings)
        self.temperature = temperature
        self.random = torch.Generator().manual_seed(seed)
        self.messages: list[dict[str, Any]] = []
        self.unanswered: list[str] = []

    def say(self, line: str, write: Callable[[str], object]) -> None:
        """Obey a command, or answer a line; everything that is shown goes through `write`."""
        command, _, rest = line.strip().partition(" ")
        match command:
            case "":
                return
            case "/help":
                write(HELP + "\n")
            case "/tokens":
                write(self.tokens() + "\n")
            case "/template":
                write(shown((self.folder / "chat_template.jinja").read_text(encoding="utf-8"), 100_000) + "\n")
            case "/reset":
                self.messages = [message for message in self.messages[:1] if message["role"] == "system"]
                self.unanswered = []
            case "/system":
                self._begin(rest, apart(self.messages)[1] or [])
            case "/tools":
                self._define(rest, write)
            case "/greedy":
                self.temperature = 0.0
            case "/sample":
                self._sample(rest, write)
            case _ if command.startswith("/"):
                write(f"no command is called {shown(command, 40)}\n{HELP}\n")
            case _:
                try:
                    self._answer(line, write)
                except Unrenderable as refused:  # a foreign protocol knows no system turn, or nothing about this text
                    write(f"{refused}\n")

    def tokens(self) -> str:
        """The conversation so far as the model sees it, a line a turn."""
        if not self.messages:
            return f"nothing was said yet, protocol {self.protocol.digest[:12]}"
        waiting = self.messages[-1]["role"] != "assistant"
        rendered = self.renderer.render(self.messages, generation_prompt=waiting)
        pieces = []
        for token, supervised in zip(rendered.ids, rendered.assistant_mask, strict=True):
            text = repr(self.tokenizer.decode([token], skip_special_tokens=False))[1:-1]
            pieces.append(f"[{token}:{text}]" if supervised else f"{token}:{text}")
            pieces.append("\n" if token == self.protocol.stop_id else " ")
        count = f"{len(rendered.ids)} of {self.window} tokens, protocol {self.protocol.digest[:12]}"
        return f"{''.join(pieces).rstrip()}\n{count}"

    def _begin(self, system: str, tools: list[Any]) -> None:
        """Begin again, behind this system text and these definitions of tools."""
        self.messages = together([{"role": "system", "content": system}] if system else [], tools)
        self.unanswered = []

    def _define(self, name: str, write: Callable[[str], object]) -> None:
        try:
            tools = read_definitions(Path(name).read_text(encoding="utf-8")) if name else []
        except (OSError, UnicodeDecodeError):
            tools = None
        if tools is None:
            write(f"expected a JSON list of tools in the OpenAI schema, found none in {shown(name, 200)!r}\n")
            return
        before = self.messages
        first = before[0] if before and before[0]["role"] == "system" else {}
        self._begin(first.get("content") or "", tools)
        try:
            self.renderer.render(self.messages)
        except Unrenderable as refused:
            self.messages = before
            write(f"{refused}\n")

    def _sample(self, text: str, write: Callable[[str], object]) -> None:
        with suppress(ValueError):
            if 0 < float(text) < float("inf"):
                self.temperature = float(text)
                return
        write(f"expected a temperature above 0, found {shown(text, 40)!r}. Try /sample 0.7\n")

    def _answer(self, line: str, write: Callable[[str], object]) -> None:
        asked = [*self.messages, self._turn(line)]
        if len(self.unanswered) > 1:
            self.messages, self.unanswered = asked, self.unanswered[1:]
            write(f"({len(self.unanswered)} more: what you type next is the result of the next call)\n")
            return
        prompt = self.renderer.render(asked, generation_prompt=True).ids
        if len(prompt) >= self.window:
            write(f"expected at most {self.window - 1} tokens, found {len(prompt)}. Say less, or /reset.\n")
            return
        ended = self._stream(prompt, write)
        write("\n" if ended.why == "stop token" else f"\n({ended.why}: the answer has no stop token)\n")
        answer = as_message(self.renderer, ended.ids)
        self.messages, self.unanswered = [*asked, answer], [call["id"] for call in answer.get("tool_calls", ())]
        if self.unanswered:
            write("(a tool is called: what you type next is its result)\n")

    def _turn(self, line: str) -> dict[str, Any]:
        """What was typed, as the user says it or as the result of the first call without one."""
        if self.unanswered:
            return {"role": "tool", "tool_call_id": self.unanswered[0], "content": line}
        return {"role": "user", "content": line}

    def _stream(self, prompt: list[int], write: Callable[[str], object]) -> Ended:
        """Write the answer as it comes; a character is written once all of its bytes are there."""
        ids: list[int] = []
        written, why = 0, "window full"
        try:
            for token in self._generate(prompt):
                if token == self.protocol.stop_id:
                    why = "stop token"
                    break
                ids.append(token)
                text = self.tokenizer.decode(ids, skip_special_tokens=False)
                if not text.endswith(REPLACEMENT):
                    write(shown(text[written:], len(text)))
                    written = len(text)
        except KeyboardInterrupt:
            why = "interrupted"
        text = self.tokenizer.decode(ids, skip_special_tokens=False)
        write(shown(text[written:], len(text)))
        return Ended(ids, why)

    @torch.inference_mode()
    def _generate(self, prompt: list[int]) -> Iterator[int]:
        """The tokens of an answer, one at a time, until the window is full."""
        past = transformers.DynamicCache(config=self.model.config)
        new = prompt
        for _ in range(self.window - len(prompt)):
            logits_V = self.model(torch.tensor([new]), past_key_values=past, use_cache=True).logits[0, -1]
            new = [self._draw(logits_V)]
            yield new[0]

    def _draw(self, logits_V: torch.Tensor) -> int:
        if self.temperature == 0:
            return int(logits_V.argmax())
        chances_V = torch.softmax(logits_V.double() / self.temperature, dim=-1)
        return int(torch.multinomial(chances_V, 1, generator=self.random))


def main() -> int:
    """Talk until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m lifecycle.workers.talk", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token each time")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    asking = sys.stdin.isatty()

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        talk = Talk(options.folder, temperature=options.temperature, seed=options.seed)
        if asking:
            write(f"{options.folder}\n{HELP}\n")
        while (said := read(sys.stdin, lambda: write("> " if asking else ""))) not in (None, "/quit"):
            talk.say(said or "", write)
    except LifecycleError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except (BrokenPipeError, KeyboardInterrupt):
        return 0  # the reader has seen enough, or Ctrl-C at the prompt: both are ways to leave
    return 0


def read(lines: TextIO, prompt: Callable[[], object]) -> str | None:
    """What is said next: a line and those it goes on in; None where the input ends."""
    said = ""
    while True:
        prompt()
        line = lines.readline()
        if not line:
            return said or None
        said += line.rstrip("\n")
        if not said.endswith("\\"):
            return said
        said = said[:-1] + "\n"


if __name__ == "__main__":
    sys.exit(main())
