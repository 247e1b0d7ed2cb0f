"""The families of networks a recipe can name, told apart by `family`."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.gpt2 import Gpt2Config


def _family(value: Any) -> str:
    """`family` of a model or of its settings; Llama where none is named, as before there was another."""
    return str(value.get("family", "llama") if isinstance(value, dict) else value.family)


Model = Annotated[Annotated[ModelConfig, Tag("llama")] | Annotated[Gpt2Config, Tag("gpt2")], Discriminator(_family)]
