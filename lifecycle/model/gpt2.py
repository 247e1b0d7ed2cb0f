"""GPT-2's shape: learned positions, LayerNorm, biases, a feed-forward layer four times as wide, tied embeddings.

Radford et al. 2019, section 2.3; the weights of the release called 124M have exactly these tensors.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Gpt2Config(BaseModel):
    """A GPT-2 decoder, 124M by default. Vocabulary and row length, and with it the positions, come from the shards."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    family: Literal["gpt2"] = "gpt2"
    hidden_size: int = Field(768, ge=8)
    layers: int = Field(12, ge=1)
    heads: int = Field(12, ge=1)
    norm_epsilon: float = Field(1e-5, gt=0)
    initializer_range: float = Field(0.02, gt=0, description="Standard deviation of the initial weights.")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % self.heads:
            raise ValueError(
                f"expected heads to divide hidden_size={self.hidden_size}, found {self.heads}. "
                f"Try heads={max(1, self.hidden_size // 64)}."
            )
        return self

    @property
    def kv_heads(self) -> int:
        return self.heads

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.heads

    @property
    def intermediate_size(self) -> int:
        return 4 * self.hidden_size

    @property
    def tie_embeddings(self) -> bool:
        return True

    def layer_tensors(self) -> list[int]:
        """How many numbers each trained tensor of one layer has, in the order of the network."""
        width = self.hidden_size
        attention = [3 * width * width, 3 * width, width * width, width]
        feed_forward = [4 * width * width, 4 * width, 4 * width * width, width]
        return [width, width, *attention, width, width, *feed_forward]

    def outer_tensors(self, vocab_size: int, max_seq_len: int) -> list[int]:
        """The same of what is no layer: token and position embeddings first, the last norm after the layers."""
        return [vocab_size * self.hidden_size, max_seq_len * self.hidden_size, self.hidden_size, self.hidden_size]

    def parameters(self, vocab_size: int, max_seq_len: int) -> int:
        """How many numbers are trained: 124,439,808 with 50,257 ids and 1,024 positions."""
        return sum(self.outer_tensors(vocab_size, max_seq_len)) + self.layers * sum(self.layer_tensors())

    def gpt2(self, *, vocab_size: int, max_seq_len: int, bos_id: int, pad_id: int, stop_id: int) -> dict[str, Any]:
        """Keyword arguments of `transformers.GPT2Config`."""
        return {
            "vocab_size": vocab_size,
            "n_positions": max_seq_len,
            "n_embd": self.hidden_size,
            "n_layer": self.layers,
            "n_head": self.heads,
            "layer_norm_epsilon": self.norm_epsilon,
            "initializer_range": self.initializer_range,
            # GPT-2's own formula of GELU in one kernel; `gelu_new` is the same in eight, and keeps what each made.
            "activation_function": "gelu_pytorch_tanh",
            # Ten billion tokens are seen once: nothing is there to overfit to.
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "bos_token_id": bos_id,
            "pad_token_id": pad_id,
            "eos_token_id": stop_id,
            "use_cache": True,
        }
