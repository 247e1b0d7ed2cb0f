"""A worker with a fault behind its contracts: `LIFECYCLE_PLANT=sft:mask_off python -m benchmarks.planted JOB_FOLDER`.

Contracts refuse these faults wherever they can be planted from outside (tests/lifecycle/test_protocol_faults.py). Here
they stand in for a bug of ours that no contract sees: the diagnosis has to find them by what they do.
"""

import os
from collections.abc import Callable
from typing import Any

PLANT = "LIFECYCLE_PLANT"
IGNORED = -100


def mask_off(labels: Any, inputs: Any) -> Any:
    """Every token up to the last one taught is in the loss."""
    taught = labels != IGNORED
    before = taught.flip(-1).cumsum(-1).flip(-1) > 0
    return inputs["input_ids"].where(before, IGNORED)


def mask_late(labels: Any, inputs: Any) -> Any:
    """The first two tokens of an answer are not in the loss."""
    taught = labels != IGNORED
    late = taught & taught.roll(1, -1) & taught.roll(2, -1)
    return labels.where(late, IGNORED)


def stop_unsupervised(labels: Any, inputs: Any) -> Any:
    """The last token of an answer is not in the loss."""
    taught = labels != IGNORED
    return labels.where(taught & taught.roll(-1, -1), IGNORED)


def bos_doubled(ids: list[int]) -> list[int]:
    return [ids[0], *ids]


def generation_prompt_dropped(ids: list[int]) -> list[int]:
    return ids[:-1]


def template_edited(ids: list[int]) -> list[int]:
    """A turn's closing token is taken for white space, and stripped."""
    return [*ids[:-2], ids[-1]]


def mask_inverted(labels: Any, inputs: Any) -> Any:
    """The prompts are in the loss, and the answers are not."""
    taught = labels != IGNORED
    before = taught.flip(-1).cumsum(-1).flip(-1) > 0
    return inputs["input_ids"].where(before & ~taught, IGNORED)


def labels_shifted(labels: Any, inputs: Any) -> Any:
    """Shifted here, and once more where the loss is taken: each place learns the token after the next."""
    shifted = labels.roll(-1, -1)
    shifted[..., -1] = IGNORED
    return shifted


SFT: dict[str, Callable[[Any, Any], Any]] = {
    "mask_off": mask_off,
    "mask_late": mask_late,
    "mask_inverted": mask_inverted,
    "labels_shifted": labels_shifted,
    "stop_unsupervised": stop_unsupervised,
}
EVALUATE: dict[str, Callable[[list[int]], list[int]]] = {
    "bos_doubled": bos_doubled,
    "generation_prompt_dropped": generation_prompt_dropped,
    "template_edited": template_edited,
}


def main() -> None:
    """Be the worker the plant is for, with the plant in it."""
    stage, name = os.environ[PLANT].split(":")
    if stage == "sft":
        from lifecycle.workers import sft

        honest = sft.Trainer.micro_batch

        def micro_batch(self: Any, rows: list[int]) -> Any:
            inputs = honest(self, rows)
            return {**inputs, "labels": SFT[name](inputs["labels"], inputs)}

        sft.Trainer.micro_batch = micro_batch  # type: ignore[method-assign]
        sft.doorway.run(sft.SftJob, sft.in_its_own_process)
    else:
        from lifecycle.evaluation.encode import Encoder
        from lifecycle.workers import evaluate

        rendered = Encoder.prompt
        Encoder.prompt = lambda self, prompt: EVALUATE[name](rendered(self, prompt))  # type: ignore[method-assign]
        evaluate.doorway.run(evaluate.EvaluateJob, evaluate.evaluate)


if __name__ == "__main__":
    main()
