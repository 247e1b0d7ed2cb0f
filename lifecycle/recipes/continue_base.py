"""Continued pretraining of a foreign base: SmolLM2-1.7B goes on reading ten billion tokens of educational web text."""

from pathlib import Path

from lifecycle.model.families import OfTheBase
from lifecycle.model.zero import ZeroConfig
from lifecycle.recipes import LifecycleConfig
from lifecycle.recipes.gpt2_124m import fineweb_edu
from lifecycle.recipes.tiny import tiny
from lifecycle.stages.base import BaseConfig
from lifecycle.stages.pretrain import PretrainConfig, Tokens
from lifecycle.stages.shards import ShardsConfig
from lifecycle.stages.tokenizer import BaseTokenizerConfig

CHATML = Path(__file__).with_name("chatml.jinja")


def continue_base() -> LifecycleConfig:
    """8 GPUs. The base is a folder of yours: --set base.source=FOLDER; shape and vocabulary are read from it.

    Warmed up again, to half of the base's own peak of 5e-4, and decayed to a tenth, as Ibrahim et al. 2024 find best
    where new text is like the old (section 6, https://arxiv.org/abs/2403.08763). What follows the base is tiny's.
    """
    small = tiny()
    return small.model_copy(
        update={
            "name": "continue_base",
            "model_name": "continued-1.7b",
            "base": BaseConfig(
                source=Path("bases/SmolLM2-1.7B"),
                origin="HuggingFaceTB/SmolLM2-1.7B",
                licence="Apache-2.0",
                template=CHATML,
            ),
            "corpus": fineweb_edu("sample-10BT"),
            "tokenizer": BaseTokenizerConfig(),
            "shards": ShardsConfig(max_seq_len=2048),
            "pretrain": PretrainConfig(
                model=OfTheBase(),
                horizon=Tokens(tokens=10_000_000_000),
                batch_rows=512,
                micro_batch_rows=4,
                learning_rate=2.5e-4,
                warmup_steps=100,
                zero=ZeroConfig(stage=1),
                activation_checkpointing=True,
                ranks=8,
                save_every_steps=250,
                validate_every_steps=250,
            ),
            "sft": small.sft.model_copy(update={"learning_rate": 2e-5, "ranks": 8}),
            "preference": small.preference and small.preference.model_copy(update={"learning_rate": 5e-7}),
            "release": small.release.model_copy(
                update={"name": "continued-1.7b", "description": "SmolLM2-1.7B, pretrained further on FineWeb-Edu."}
            ),
            "typical_seconds": {},
        }
    )
