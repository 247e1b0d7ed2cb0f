"""The families of networks a recipe can name, told apart by `family`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Tag

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.gpt2 import Gpt2Config


def _family(value: Any) -> str:
    """`family` of a model or of its settings; Llama where none is named, as before there was another."""
    return str(value.get("family", "llama") if isinstance(value, dict) else value.family)


class OfTheBase(BaseModel):
    """The network of the adopted base: its shape has its home in the base's config.json, and none in a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    family: Literal["base"] = "base"


Model = Annotated[Annotated[ModelConfig, Tag("llama")] | Annotated[Gpt2Config, Tag("gpt2")], Discriminator(_family)]
AnyModel = Annotated[
    Annotated[ModelConfig, Tag("llama")] | Annotated[Gpt2Config, Tag("gpt2")] | Annotated[OfTheBase, Tag("base")],
    Discriminator(_family),
]
