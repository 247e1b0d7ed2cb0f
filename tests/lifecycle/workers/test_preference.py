"""Preference tuning in this process, on a model of 20,000 weights."""

import json
import math

import pytest
from pydantic import ValidationError

from lifecycle.errors import WorkerFailed
from lifecycle.evaluation.kinds import drift
from lifecycle.evaluation.metrics import measured as measured_of
from lifecycle.evaluation.metrics import scores
from lifecycle.stages.preference import PreferenceConfig, PreferenceJob
from lifecycle.training.compared import handed
from lifecycle.training.drift import DriftPolicy
from lifecycle.training.post import Lora
from lifecycle.workers import preference
from lifecycle.workers.job import Recorder


@pytest.fixture
def job(sft, comparisons, tmp_path):
    def make(out: str = "out", **settings) -> PreferenceJob:
        (tmp_path / out / "log").mkdir(parents=True)
        config = PreferenceConfig(
            **{"epochs": 2, "batch_pairs": 8, "learning_rate": 1e-3, "log_every_steps": 1} | settings
        )
        return PreferenceJob(config=config, **handed(sft, comparisons, tmp_path / out))

    return make


def run(job: PreferenceJob):
    return preference.train(job, Recorder(job.out_dir / "log"))


def steps(job: PreferenceJob) -> list[dict]:
    rows = (json.loads(line) for line in (job.out_dir / "log" / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if "loss" in row]


@pytest.mark.parametrize("settings", [{}, {"micro_batch_rows": 2}, {"lora": Lora(rank=2)}])
def test_the_loss_is_log_2_before_the_first_step(job, settings):
    made = job(precision="fp32", **settings)
    run(made)
    first = steps(made)[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["reward_margin"] == pytest.approx(0, abs=1e-5)


def test_the_chosen_answers_log_probability_is_a_term_of_the_loss_by_its_weight(job):
    """At the first step DPO's term is log 2 whatever the pairs are: what is left is weight x mean -log p(chosen)."""
    with_nll = {weight: job(f"nll-{weight}", precision="fp32", chosen_nll_weight=weight) for weight in (0.5, 1.0)}
    added = {}
    for weight, made in with_nll.items():
        run(made)
        added[weight] = steps(made)[0]["loss"] - math.log(2)
    assert added[1.0] == pytest.approx(2 * added[0.5], rel=1e-5)
    assert added[1.0] > 0.1


def test_micro_batches_of_unequal_length_change_no_loss_and_no_held_out_loss(job):
    """A mean of the micro batches' means a token would be another loss: answers have 1 to 20 letters here."""
    found = {}
    for micro in (None, 2):
        made = job(f"micro-{micro}", precision="fp32", chosen_nll_weight=1.0, micro_batch_rows=micro, epochs=1)
        for file in (made.train_file, made.heldout_file):
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            for number, row in enumerate(rows):
                row["chosen"][0]["content"] = "ab" * (1 + number % 10)
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        tuned = run(made)
        found[micro] = [*(row["loss"] for row in steps(made)), tuned.heldout["loss"]]
    assert found[2] == pytest.approx(found[None], abs=1e-5)


def test_in_bf16_the_loss_starts_at_log_2_up_to_rounding(job):
    made = job()
    run(made)
    assert steps(made)[0]["loss"] == pytest.approx(math.log(2), abs=2e-3)


def test_the_chosen_answers_of_held_out_pairs_win(job):
    made = job()
    tuned = run(made)
    assert tuned.steps == 8
    assert tuned.heldout["reward_accuracy"] == 1.0
    assert tuned.heldout["reward_margin"] > 0
    assert tuned.final_loss < math.log(2)
    assert steps(made)[-1]["logprob_chosen"] > steps(made)[-1]["logprob_rejected"]


def test_twice_the_same_job_gives_the_same_bytes(job):
    first, second = job("first"), job("second")
    assert run(first) == run(second)
    name = "model.safetensors"
    assert (first.out_dir / name).read_bytes() == (second.out_dir / name).read_bytes()


METHODS = {"ipo": {}, "kto": {}, "orpo": {}, "simpo": {"beta": 2.0}}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_chosen_answers_of_held_out_pairs_win(job, method):
    made = job(method=method, **METHODS[method])
    tuned = run(made)
    assert tuned.heldout["reward_accuracy"] == 1.0
    assert tuned.heldout["reward_margin"] > 0
    assert {"logprob_chosen", "tokens"} <= steps(made)[-1].keys()


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_the_layout_changes_no_loss(job, method):
    losses = {}
    for layout in ("padded", "side_by_side"):
        made = job(layout, precision="fp32", layout=layout, method=method)
        run(made)
        losses[layout] = [row["loss"] for row in steps(made)]
    assert losses["padded"] == pytest.approx(losses["side_by_side"], abs=1e-4)


def test_a_rerun_with_other_settings_reads_the_references_numbers(job, tmp_path, monkeypatch):
    kept = {"references": tmp_path / "references", "inputs": {"sft": "digest"}}
    first, second = job("first").model_copy(update=kept), job("second", beta=0.3).model_copy(update=kept)
    run(first)
    files = sorted((tmp_path / "references").iterdir())
    assert len(files) == 2  # of the pairs to train on, and of those held out
    monkeypatch.setattr(preference.reference, "seal", None)  # would be called for what is computed again
    run(second)
    alone = job("alone", beta=0.3)
    monkeypatch.undo()
    run(alone)
    assert [row["loss"] for row in steps(second)] == [row["loss"] for row in steps(alone)]


@pytest.fixture
def policy(tmp_path, demonstrations):
    def make(**settings) -> DriftPolicy:
        off = dict.fromkeys(("max_kl", "max_chosen_fall", "max_length_factor", "min_distinct_share"))
        guard = demonstrations.path / "dev.jsonl"
        return DriftPolicy(**{**off, "every_steps": 2, "max_new_tokens": 8, "guard": guard, **settings})

    return make


def drift_of(made: PreferenceJob) -> list[dict]:
    rows = (json.loads(line) for line in (made.out_dir / "log" / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if "drift/kl" in row]


def test_drift_is_measured_from_before_the_first_step_to_the_end_and_left_as_evidence(job, policy):
    made = job(drift=policy(), precision="fp32")
    tuned = run(made)
    measured = drift_of(made)
    assert [row["step"] for row in measured] == [0, 2, 4, 6, 8]
    assert measured[0]["drift/kl"] == pytest.approx(0, abs=1e-4)
    assert measured[0]["drift/length_ratio"] == 1.0
    assert measured[0]["drift/contract_fall_shown"] < 0  # that nothing changed does not show that nothing fell
    assert measured[-1]["drift/kl"] > measured[1]["drift/kl"] > 0
    assert measured[-1]["drift/kl_forward"] > 0
    assert tuned.drift["kl"] == measured[-1]["drift/kl"]
    records = list(drift.items(made.out_dir))
    assert {item.mode for item in records} == {"sampled", "likelihood"}
    found = scores(measured_of(records), confidence=0.95)
    assert found["drift.kl"].mean == pytest.approx(tuned.drift["kl"], abs=1e-4)
    assert found["drift.preferred"].mean == tuned.drift["reward_accuracy"]
    assert not found["drift.kl"].higher_is_better


def test_watching_drift_changes_no_weight(job, policy):
    plain, watched = job("plain"), job("watched", drift=policy())
    run(plain), run(watched)
    name = "model.safetensors"
    assert (plain.out_dir / name).read_bytes() == (watched.out_dir / name).read_bytes()


def test_a_rule_ends_the_training_and_the_best_step_before_it_is_kept(job, policy):
    plain = job("plain", drift=policy())
    run(plain)
    kl = [row["drift/kl"] for row in drift_of(plain)]
    stopped = job("stopped", drift=policy(max_kl=(kl[2] + kl[3]) / 2))
    tuned = run(stopped)
    assert (tuned.steps, tuned.findings) == (4, {"moved_too_far": 1})
    assert tuned.drift["kl"] == pytest.approx(kl[2], rel=1e-3)
    (finding,) = map(json.loads, (stopped.out_dir / "log" / "findings.jsonl").read_text().splitlines())
    assert (finding["step"], finding["rule"], finding["action"]) == (6, "moved_too_far", "stop")


def test_nothing_is_kept_where_no_step_kept_the_rules(job, policy):
    with pytest.raises(WorkerFailed, match=r"found moved_too_far after step 2 of 8: .*none before it"):
        run(made := job(drift=policy(max_kl=1e-6)))
    assert not (made.out_dir / "model.safetensors").exists()


def test_swapped_labels_are_named_and_nothing_is_kept(job, policy):
    made = job(drift=policy())
    rows = [json.loads(line) for line in made.train_file.read_text().splitlines()]
    (made.out_dir / "swapped.jsonl").write_text(
        "".join(json.dumps({**r, "chosen": r["rejected"], "rejected": r["chosen"]}) + "\n" for r in rows)
    )
    with pytest.raises(WorkerFailed, match="labels_swapped after step 2 of 8: 100% of 8 held-out pairs"):
        run(made.model_copy(update={"train_file": made.out_dir / "swapped.jsonl"}))


def test_a_killed_run_that_is_watched_goes_on_to_the_same_bytes(job, policy, monkeypatch):
    whole, killed = job("whole", drift=policy()), job("killed", drift=policy(), save_every_steps=3)
    run(whole)
    taken = preference.Trainer.training_step

    def dies(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise RuntimeError("killed")
        return taken(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(preference.Trainer, "training_step", dies)
        with pytest.raises(RuntimeError, match="killed"):
            run(killed)
    run(killed)
    name = "model.safetensors"
    assert (whole.out_dir / name).read_bytes() == (killed.out_dir / name).read_bytes()
    assert [row["drift/kl"] for row in drift_of(whole)] == [row["drift/kl"] for row in drift_of(killed)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "orpo", "chosen_nll_weight": 1.0}, "orpo has the chosen answer"),
        ({"margin": 0.5}, "expected a margin with method simpo alone"),
        ({"method": "kto", "micro_batch_rows": 2}, "kto estimates its KL"),
        ({"method": "ppo"}, "Input should be 'dpo'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        PreferenceConfig(**settings)
