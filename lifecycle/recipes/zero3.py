"""Seven billion parameters over many machines: what ZeRO stage 3 is for."""

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.zero import ZeroConfig
from lifecycle.recipes import LifecycleConfig
from lifecycle.recipes.gpt2_124m import fineweb_edu
from lifecycle.recipes.tiny import tiny
from lifecycle.stages.pretrain import PretrainConfig, Tokens
from lifecycle.stages.shards import ShardsConfig
from lifecycle.stages.tokenizer import TokenizerConfig


def zero3() -> LifecycleConfig:
    """Llama's 7B shape (6,738,415,616 parameters) on 140 billion tokens, 20 a parameter, 8 machines of 8 GPUs.

    Batch and rate are Llama's (Touvron et al. 2023, table 2): four million tokens a step, 3e-4, 2,000 steps of warm-up.
    Ask first: `python -m lifecycle plan memory --recipe zero3 --world-size 64 --gpu-memory 80GiB`.
    """
    small = tiny()
    return small.model_copy(
        update={
            "name": "zero3",
            "model_name": "zero3-7b",
            "corpus": fineweb_edu("sample-350BT"),
            "tokenizer": TokenizerConfig(vocab_size=32_000),
            "shards": ShardsConfig(max_seq_len=4096),
            "pretrain": PretrainConfig(
                model=ModelConfig(
                    hidden_size=4096,
                    layers=32,
                    heads=32,
                    kv_heads=32,
                    intermediate_size=11_008,
                    tie_embeddings=False,
                ),
                horizon=Tokens(tokens=140_000_000_000),
                batch_rows=1024,
                micro_batch_rows=4,
                learning_rate=3e-4,
                warmup_steps=2000,
                zero=ZeroConfig(stage=3),
                activation_checkpointing=True,
                ranks=8,
                save_every_steps=250,
                validate_every_steps=500,
            ),
            "release": small.release.model_copy(
                update={"name": "zero3-7b", "description": "7B on FineWeb-Edu, with tiny's conversations."}
            ),
            "typical_seconds": {},
        }
    )
