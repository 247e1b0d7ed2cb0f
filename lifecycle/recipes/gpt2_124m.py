"""GPT-2 124M again: its network to the last parameter, on ten billion tokens of educational web text."""

from lifecycle.data.documents import Source
from lifecycle.data.sources.places import HubDataset
from lifecycle.model.gpt2 import Gpt2Config
from lifecycle.model.zero import ZeroConfig
from lifecycle.recipes import LifecycleConfig
from lifecycle.recipes.tiny import tiny
from lifecycle.stages.corpus import CorpusConfig
from lifecycle.stages.pretrain import PretrainConfig, Tokens
from lifecycle.stages.shards import ShardsConfig
from lifecycle.stages.tokenizer import TokenizerConfig

# The commit that public experiments with this data set pin: `sample-10BT` has 9,672,101 documents there.
FINEWEB_EDU = "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9"


def fineweb_edu(sample: str) -> CorpusConfig:
    """A sample of FineWeb-Edu (Penedo et al. 2024), streamed from the hub; it is filtered, and deduplicated by dump."""
    place = HubDataset(repository="HuggingFaceFW/fineweb-edu", config=sample, revision=FINEWEB_EDU)
    source = Source(name="fineweb-edu", path=place, licence="ODC-By-1.0")
    return CorpusConfig(sources=(source,), quality=None, near_duplicates=None, validation_share=0.001)


def gpt2_124m() -> LifecycleConfig:
    """8 GPUs; one makes the same model, later: --set pretrain.ranks=1. What follows the base is tiny's.

    Batch, rate and warm-up are GPT-3's of this size (Brown et al. 2020, table 2.1 and appendix B): half a million
    tokens a step, 6e-4, 375 million tokens of warm-up.
    """
    small = tiny()
    return small.model_copy(
        update={
            "name": "gpt2_124m",
            "model_name": "gpt2-124m",
            "corpus": fineweb_edu("sample-10BT"),
            "tokenizer": TokenizerConfig(vocab_size=50_257),  # as many ids as GPT-2 has, learned on this text
            "shards": ShardsConfig(max_seq_len=1024),
            "pretrain": PretrainConfig(
                model=Gpt2Config(),
                cross_document_attention="allowed",  # as GPT-2 was trained
                horizon=Tokens(tokens=10_000_000_000),
                batch_rows=512,
                micro_batch_rows=32,
                learning_rate=6e-4,
                warmup_steps=715,
                zero=ZeroConfig(stage=1),
                ranks=8,
                save_every_steps=500,
                validate_every_steps=500,
            ),
            "release": small.release.model_copy(
                update={"name": "gpt2-124m", "description": "GPT-2 124M on FineWeb-Edu, with tiny's conversations."}
            ),
            "typical_seconds": {},
        }
    )
