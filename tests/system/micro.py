"""The tiny recipe with every stage cut to seconds: for tests of what happens around training."""

import gzip
import tempfile
from pathlib import Path

from lifecycle.data.documents import Source
from lifecycle.evaluation.rules import Ceiling
from lifecycle.recipes import LifecycleConfig
from lifecycle.recipes.tiny import PACK, tiny
from lifecycle.sealing import write_atomically
from lifecycle.stages.comparisons import ComparisonsConfig
from lifecycle.stages.demonstrations import DemonstrationsConfig
from lifecycle.stages.gate import GateConfig
from lifecycle.stages.pretrain import Steps
from lifecycle.stages.suites import SuiteFile, SuitesConfig

ROWS = Path(tempfile.gettempdir()) / "lifecycle-micro"  # identity covers bytes, not names: any folder will do


def first(rows: int, file: str) -> Path:
    """The first rows of a shipped file, in a file of their own."""
    part = ROWS / f"{rows}-{file.replace('/', '-').removesuffix('.gz')}"
    if not part.exists():
        ROWS.mkdir(exist_ok=True)
        whole = gzip.decompress((PACK / file).read_bytes()).splitlines(keepends=True)
        write_atomically(part, b"".join(whole[:rows]))
    return part


def micro() -> LifecycleConfig:
    config = tiny()
    shorter = {"horizon": Steps(steps=40), "warmup_steps": 5, "save_every_steps": 10, "validate_every_steps": 40}
    conversations = first(640, "contract/train.jsonl.gz")
    wordnet = Source(name="wordnet", path=PACK / "corpus/wordnet.jsonl.gz", licence="WordNet")
    # Without them the tokenizer cuts records into so many tokens that they do not fit a row.
    records = Source(name="records", path=conversations, licence="facts", text_field="record", is_prose=False)
    return config.model_copy(
        update={
            "name": "micro",
            "model_name": "micro",
            "suites": SuitesConfig(suites=(SuiteFile(name="contract", path=first(64, "contract/test.jsonl.gz")),)),
            "corpus": config.corpus.model_copy(update={"sources": (wordnet, records)}),
            "pretrain": config.pretrain.model_copy(update=shorter),
            "demonstrations": DemonstrationsConfig(train=conversations, dev=first(32, "contract/dev.jsonl.gz")),
            "sft": config.sft.model_copy(update={"epochs": 1, "log_every_steps": 5, "batch_rows": 16}),
            "comparisons": ComparisonsConfig(
                train=first(64, "preferences/train.jsonl.gz"), heldout=first(16, "preferences/heldout.jsonl.gz")
            ),
            "preference": config.preference.model_copy(update={"epochs": 1}),
            "evaluate": config.evaluate.model_copy(update={"max_new_tokens": 4}),
            # It knows nothing after 40 steps: the gate is only asked whether it is better than guessing bytes.
            "gate": GateConfig(rules=(Ceiling(metric="bits_per_byte", at_most=8.0),)),
        }
    )
