"""What a run left behind, as it lies in a store."""

from typing import ClassVar

import pytest

from lifecycle.artifacts import EvalReport
from lifecycle.diagnosis.records import Records
from lifecycle.runs import Run
from lifecycle.sealing import StageConfig
from lifecycle.store import Made, Store


class Asking(StageConfig):
    stage: ClassVar[str] = "evaluate"
    max_new_tokens: int = 32
    items_per_suite: int | None = None


@pytest.fixture
def evaluated(tmp_path, held_out, sft, base):
    """A run whose candidate was evaluated, and a way to evaluate its SFT checkpoint."""
    store = Store(tmp_path / "store")

    def report(checkpoint, **asked):
        folder = store.root / "artifacts" / "evaluate" / f"{checkpoint.digest[:8]}-{len(asked)}"
        folder.mkdir(parents=True)
        known = {"protocol_digest": "p", "suites_digest": held_out[0].digest, "scores": {}, "baselines": {}}
        made = EvalReport(path=folder, checkpoint_digest=checkpoint.digest, **known)
        return made.seal(Asking(**asked), held_out[0])

    run = Run.start(store, flow="full-lifecycle", recipe="tiny", settings=[])
    for label, artifact in {"suites": held_out[0], "sft": sft, "evaluate": report(base)}.items():
        run.add(Made(artifact, reused=False, seconds=1.0), label=label)
    run.end("COMPLETED", "")
    return Records(store, run), lambda **asked: report(sft, **asked)


def test_a_report_with_another_limit_on_answers_is_no_comparison(evaluated):
    """What it cuts would look lost, or won."""
    records, evaluate_sft = evaluated
    evaluate_sft(max_new_tokens=4)
    assert records.report_of("sft") is None


def test_a_report_on_fewer_of_the_items_is_one(evaluated):
    records, evaluate_sft = evaluated
    made = evaluate_sft(items_per_suite=300)
    assert records.report_of("sft").digest == made.digest
