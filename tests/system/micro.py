"""The tiny recipe with every training stage cut to seconds: for tests of what happens around training."""

from lifecycle.evaluation.rules import Ceiling
from lifecycle.recipes import LifecycleConfig
from lifecycle.recipes.tiny import tiny
from lifecycle.stages.gate import GateConfig
from lifecycle.stages.pretrain import Steps


def micro() -> LifecycleConfig:
    config = tiny()
    shorter = {"horizon": Steps(steps=60), "warmup_steps": 5, "save_every_steps": 10, "validate_every_steps": 60}
    return config.model_copy(
        update={
            "name": "micro",
            "model_name": "micro",
            "pretrain": config.pretrain.model_copy(update=shorter),
            "sft": config.sft.model_copy(update={"epochs": 0.08, "log_every_steps": 5}),
            "preference": config.preference.model_copy(update={"epochs": 0.2}),
            "evaluate": config.evaluate.model_copy(update={"max_new_tokens": 4, "validation_documents_per_source": 5}),
            # It knows nothing after 60 steps: the gate is only asked whether it is better than guessing bytes.
            "gate": GateConfig(rules=(Ceiling(metric="bits_per_byte", at_most=8.0),)),
        }
    )
