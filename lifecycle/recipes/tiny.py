"""A million parameters, under four minutes on two cores: the whole lifecycle on the data that ships here."""

from pathlib import Path

from lifecycle.data.documents import Source
from lifecycle.data.filters import QualityRules
from lifecycle.data.filters.gopher import GopherRules
from lifecycle.expectations import Expected
from lifecycle.model.architecture import ModelConfig
from lifecycle.model.zero import ZeroConfig
from lifecycle.recipes import LifecycleConfig
from lifecycle.stages.comparisons import ComparisonsConfig
from lifecycle.stages.corpus import CorpusConfig
from lifecycle.stages.demonstrations import DemonstrationsConfig
from lifecycle.stages.evaluate import EvaluateConfig
from lifecycle.stages.gate import Floor, GateConfig, Guard
from lifecycle.stages.preference import PreferenceConfig
from lifecycle.stages.pretrain import PretrainConfig, Steps
from lifecycle.stages.release import ReleaseConfig
from lifecycle.stages.sft import SftConfig
from lifecycle.stages.shards import ShardsConfig
from lifecycle.stages.suites import SuiteFile, SuitesConfig
from lifecycle.stages.tokenizer import TokenizerConfig

PACK = Path(__file__).parent / "pack"

# Counts and shares of data are the same for every seed: their ranges are a per cent wide, so that a filter or template
# that changed shows. What training makes differs by seed and machine: its ranges are wide around what was measured.
EXPECTED = tuple(
    Expected(stage=stage, number=number, at_least=at_least, at_most=at_most)
    for stage, number, at_least, at_most in (
        ("suites", "items", 1_500, 1_500),
        ("corpus", "read", 16_841, 16_841),
        ("corpus", "kept_share", 0.93, 0.95),
        ("corpus", "train_bytes", 6.00e6, 6.13e6),
        ("corpus", "validation_share", 0.029, 0.031),
        ("tokenizer", "vocab_size", 1_024, 1_024),
        ("shards", "tokens", 2.385e6, 2.435e6),
        ("shards", "bytes_per_token", 2.48, 2.54),
        ("pretrain", "tokens_seen", 1_638_400, 1_638_400),
        ("pretrain", "epochs", 0.67, 0.69),
        ("pretrain", "final_loss", 3.1, 3.5),
        ("demonstrations", "train_rows", 10_000, 10_000),
        ("demonstrations", "kept_share", 1, 1),
        ("sft", "supervised_share", 0.165, 0.175),
        ("sft", "dropped_share", 0, 0),
        ("sft", "final_loss", 0.05, 0.35),
        ("comparisons", "train_pairs", 1_000, 1_000),
        ("comparisons", "length_alone_predicts", 0.94, 0.97),
        ("preference", "supervised_share", 0.153, 0.162),
        ("preference", "final_loss", 0.2, 0.75),
        ("evaluate", "contaminated_share", 0, 0),
        ("evaluate", "contract.greedy_stopped", 0.98, 1),
    )
)


def tiny(seed: int = 0) -> LifecycleConfig:
    """Seeds differ in initial weights and the order of training rows; data, split and evaluation items are the same."""
    return LifecycleConfig(
        name="tiny",
        model_name="tiny-records",
        suites=SuitesConfig(suites=(SuiteFile(name="contract", path=PACK / "contract/test.jsonl.gz"),)),
        corpus=CorpusConfig(
            sources=(
                Source(name="moby-dick", path=PACK / "corpus/moby-dick.jsonl.gz", licence="CC0-1.0"),
                Source(name="state-of-the-union", path=PACK / "corpus/state-of-the-union.jsonl.gz", licence="CC0-1.0"),
                Source(name="sqlite-manual", path=PACK / "corpus/sqlite-manual.jsonl.gz", licence="public domain"),
                Source(name="wordnet", path=PACK / "corpus/wordnet.jsonl.gz", licence="WordNet"),
                # The records of the training conversations without the questions: the tokenizer learns their words.
                Source(
                    name="records",
                    path=PACK / "contract/train.jsonl.gz",
                    licence="facts",
                    text_field="record",
                    is_prose=False,
                ),
            ),
            # A dictionary's glosses are short: the paper's 50 words and 2 stop words would drop 6 of 10 of them.
            quality=QualityRules(gopher=GopherRules(min_words=15, min_stop_words=1)),
            validation_share=0.03,
        ),
        tokenizer=TokenizerConfig(vocab_size=1024),
        shards=ShardsConfig(max_seq_len=128),
        pretrain=PretrainConfig(
            # 1/sqrt(128): at this width transformers' 0.02 leaves attention flat for the first third of so short a run.
            model=ModelConfig(
                hidden_size=128, layers=4, heads=2, kv_heads=2, intermediate_size=352, initializer_range=0.08
            ),
            horizon=Steps(steps=800),
            batch_rows=16,
            learning_rate=3e-3,
            zero=ZeroConfig(stage=0),  # cutting 12 MB of state costs more of a step than it saves
            seed=seed,
            ranks=2,
            save_every_steps=100,
        ),
        demonstrations=DemonstrationsConfig(
            train=PACK / "contract/train.jsonl.gz", dev=PACK / "contract/dev.jsonl.gz", licence="facts"
        ),
        sft=SftConfig(
            epochs=1.28,
            batch_rows=16,
            learning_rate=2e-3,
            schedule="cosine",
            betas=(0.9, 0.95),
            weight_decay=0.01,
            seed=seed,
            ranks=2,
        ),
        comparisons=ComparisonsConfig(
            train=PACK / "preferences/train.jsonl.gz", heldout=PACK / "preferences/heldout.jsonl.gz", licence="facts"
        ),
        preference=PreferenceConfig(
            epochs=1.25, batch_pairs=16, learning_rate=1.5e-4, beta=0.1, chosen_nll_weight=1.0, seed=seed
        ),
        evaluate=EvaluateConfig(max_new_tokens=32),  # the longest chatty answer has 30
        gate=GateConfig(
            rules=(
                Floor(metric="contract.greedy_correct", at_least=0.80),
                Floor(metric="contract.greedy_stopped", at_least=0.98),
                Floor(metric="contract.sampled_exact", at_least=0.55),
                Guard(metric="contract.greedy_correct", margin=0.04),
                Guard(metric="contract.sampled_correct", margin=0.05),
                Guard(metric="contract.sampled_exact", margin=0.10),
                Guard(metric="contract.greedy_stopped", margin=0.01),
            )
        ),
        release=ReleaseConfig(
            name="tiny-records",
            licence="apache-2.0",
            description="One field of a package record as JSON, null when absent. A demonstration of the lifecycle.",
        ),
        typical_seconds={
            "suites": 0.2,
            "corpus": 4.2,
            "tokenizer": 1.1,
            "shards": 1.1,
            "pretrain": 92.0,
            "demonstrations": 0.7,
            "sft": 70.0,
            "comparisons": 0.5,
            "preference": 23.0,
            "evaluate": 10.0,
            "gate": 0.1,
            "release": 0.1,
        },
        expected=EXPECTED,
    )
