"""Whether transformers renders a conversation as we do: what serves a model elsewhere must ask it as it was trained."""

from functools import cached_property, partial
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers.models.auto.tokenization_auto import AutoTokenizer

from lifecycle.chat.render import Renderer
from lifecycle.chat.structure import for_template
from lifecycle.evaluation.encode import digest
from lifecycle.evaluation.kinds.suite import Parity, Reply

TEMPLATE_REFUSED = "template_refused"


class TemplateParity:
    """Compares the chat template of a checkpoint's folder with `lifecycle.chat.render`."""

    def __init__(self, folder: Path, renderer: Renderer) -> None:
        self.folder, self.renderer = folder, renderer

    def reply(self, ask: Parity) -> Reply:
        """Whether both give the same ids, for the conversation and for the prompt before its last answer."""
        messages = list(ask.messages)
        ours = self.renderer.render(messages).ids
        our_prompt = self.renderer.render(messages[:-1], generation_prompt=True).ids
        theirs = partial(self._hugging_face.apply_chat_template, return_dict=True)
        try:
            given, tools = for_template(messages)
            whole = theirs(given, tools=tools)["input_ids"]
            prompt = theirs(given[:-1], tools=tools, add_generation_prompt=True)["input_ids"]
        except TemplateError:  # ours refuses a special token typed into a message, which `render` reads as text
            return Reply("likelihood", digest(ours), tokens=len(ours), fault=TEMPLATE_REFUSED)
        equal = (ours, our_prompt) == (list(whole), list(prompt))
        return Reply("likelihood", digest(ours), tokens=len(ours), most_likely=equal)

    @cached_property
    def _hugging_face(self) -> Any:
        return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
