"""The shape of the network. Light: stages read it, and a worker turns `llama()` into a transformers LlamaConfig."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lifecycle.sealing import later_field


class ModelConfig(BaseModel):
    """A Llama decoder: pre-norm, rotary positions, SwiGLU, no biases. Vocabulary and row length come from the shards.

    Touvron et al. 2023, section 2.2, https://arxiv.org/abs/2302.13971; grouped heads: https://arxiv.org/abs/2305.13245
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    family: Literal["llama"] = later_field("llama")
    hidden_size: int = Field(128, ge=8)
    layers: int = Field(4, ge=1)
    heads: int = Field(2, ge=1)
    kv_heads: int = Field(2, ge=1, description="Heads of keys and values; fewer than `heads` makes the cache smaller.")
    intermediate_size: int = Field(352, ge=8, description="Width of the SwiGLU layer; 8/3 of hidden_size is usual.")
    tie_embeddings: bool = Field(True, description="Share the input and output embedding.")
    rope_theta: float = Field(10_000.0, gt=0, description="Base of the rotary wavelengths.")
    norm_epsilon: float = Field(1e-5, gt=0)
    initializer_range: float = Field(0.02, gt=0, description="Standard deviation of the initial weights.")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % self.heads or self.head_size % 2:
            raise ValueError(
                f"expected hidden_size to be an even multiple of heads (rotary positions turn pairs), found "
                f"{self.hidden_size} and {self.heads}. Try heads={max(1, self.hidden_size // 64)}."
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"expected kv_heads to divide heads={self.heads}, found {self.kv_heads}.")
        return self

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.heads

    def layer_tensors(self) -> list[int]:
        """How many numbers each trained tensor of one layer has, in the order of the network.

        Queries D*D, keys and values D*(kv_heads*head_size) each, output D*D, SwiGLU 3*D*F, two norms D.
        """
        width, kv_width, hidden = self.hidden_size, self.kv_heads * self.head_size, self.intermediate_size
        attention = [width * width, width * kv_width, width * kv_width, width * width]
        return [*attention, *[width * hidden] * 3, width, width]

    def outer_tensors(self, vocab_size: int, max_seq_len: int = 0) -> list[int]:
        """The same of what is no layer: embedding, last norm, output. Rotary positions are not trained."""
        embedding = vocab_size * self.hidden_size
        return [embedding, self.hidden_size] + ([] if self.tie_embeddings else [embedding])

    def parameters(self, vocab_size: int, max_seq_len: int = 0) -> int:
        """How many numbers are trained."""
        return sum(self.outer_tensors(vocab_size)) + self.layers * sum(self.layer_tensors())

    def llama(self, *, vocab_size: int, max_seq_len: int, bos_id: int, pad_id: int, stop_id: int) -> dict[str, Any]:
        """Keyword arguments of `transformers.LlamaConfig`."""
        return {
            "vocab_size": vocab_size,
            "max_position_embeddings": max_seq_len,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.intermediate_size,
            "tie_word_embeddings": self.tie_embeddings,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "rms_norm_eps": self.norm_epsilon,
            "initializer_range": self.initializer_range,
            "bos_token_id": bos_id,
            "pad_token_id": pad_id,
            "eos_token_id": stop_id,
            # use_cache=False in a saved config makes generate() 19 times slower, without a word.
            "use_cache": True,
        }
