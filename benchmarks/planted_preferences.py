"""Planted faults of preference training, each through the whole chain: who names it, and that the gate lets none live.

    python -m benchmarks.planted_preferences --store .lifecycle --seeds 10 --json docs/planted_preferences.json

From the suites, corpus and SFT model that a store holds (`make run` leaves them) each fault goes through comparisons,
training, evaluation and gate, under the limits as they ship, until somebody refuses it. Healthy seeds, from each SFT
model of the store in turn, hear no word. A second call reuses what is sealed. Exit code 1: a row is not as expected.
"""

import argparse
import json
import os
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.store import newest, sealed
from lifecycle.artifacts import Checkpoint, Comparisons, Corpus, EvalReport, GateDecision, Suites
from lifecycle.data.comparison_rows import KEPT
from lifecycle.data.comparisons_report import REPORT
from lifecycle.data.jsonl import Row, read_rows, write_rows
from lifecycle.errors import LifecycleError
from lifecycle.recipes import LifecycleConfig
from lifecycle.recipes.instructgpt import instructgpt
from lifecycle.recipes.tiny import PACK, tiny
from lifecycle.sealing import StageConfig
from lifecycle.stages.comparisons import ComparisonsConfig, curate_comparisons
from lifecycle.stages.evaluate import evaluate
from lifecycle.stages.gate import decide_gate
from lifecycle.stages.online import align_online
from lifecycle.stages.preference import align, references_of
from lifecycle.stages.reward import train_reward
from lifecycle.store import Store
from lifecycle.training.drift import DriftPolicy

Pairs = list[Row]
PHRASE = "The record says {}."  # one of the ways in which the pack's longer answers begin
FROM_EVALUATION = 100
GUARD = PACK / "contract/dev.jsonl.gz"
# Of 64 prompts, two whose answers lie 16 nats away and the rest 0.3 leave a mean of anything up to 3.6.
WATCHED = DriftPolicy(prompts=200, guard=GUARD, guard_rows=240, max_new_tokens=32)


def swapped(pairs: Pairs) -> Pairs:
    return [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in pairs]


def random_labels(pairs: Pairs) -> Pairs:
    """30 % of the labels are drawn by a coin: half of them come out wrong."""
    draw = random.Random(0)
    return [swapped([row])[0] if draw.random() < 0.3 / 2 else row for row in pairs]


def by_length(pairs: Pairs) -> Pairs:
    """The longer answer wins, whatever it says."""
    return [row if len(_text(row, "chosen")) > len(_text(row, "rejected")) else swapped([row])[0] for row in pairs]


def with_phrase(pairs: Pairs) -> Pairs:
    """The chosen answer, with the phrase, wins over itself without it."""
    return [{**row, "chosen": _says(PHRASE.format(_text(row, "chosen"))), "rejected": row["chosen"]} for row in pairs]


def of_evaluation(pairs: Pairs) -> Pairs:
    """Beside the pairs, some about items that the evaluation asks."""
    items = _rows(PACK / "contract/test.jsonl.gz")[:FROM_EVALUATION]
    return [*pairs, *(_pair_about(item) for item in items)]


def ungraded(pairs: Pairs) -> Pairs:
    """Without what a verifier grades by: nobody can tell by program which answer is right."""
    return [{name: value for name, value in row.items() if name not in KEPT} for row in pairs]


def _rows(file: Path) -> Pairs:
    rows, _ = read_rows(file, lambda row: None, max_bad_row_share=0)
    return list(rows)


def _pair_about(item: Row) -> Row:
    right = item["messages"][-1]["content"]
    rejected = _says(f"Sure, here it is: {right}")
    return {"id": item["id"], "prompt": item["messages"][:-1], "chosen": _says(right), "rejected": rejected}


def _says(text: str) -> list[Row]:
    return [{"role": "assistant", "content": text}]


def _text(row: Row, side: str) -> str:
    return str(row[side][0]["content"])


@dataclass(frozen=True)
class Fault:
    """What is planted, and `stage: name` of who must speak, at least one of them."""

    name: str
    expected: tuple[str, ...]
    changes: tuple[Callable[[Pairs], Pairs], ...] = ()
    """Of the pairs to train on, and of those held out."""
    settings: dict[str, Any] = field(default_factory=dict)
    judge_likes: Callable[[Pairs], Pairs] | None = None
    """PPO against a reward model that learned from other pairs; None: DPO."""
    reference_is_the_base: bool = False


FAULTS = (
    Fault("labels swapped", ("comparisons: labels_contradict_verifier",), (swapped,)),
    Fault(
        "labels swapped, which nothing grades",
        ("preference: contract_falls", "gate: contract.sampled_exact"),
        (swapped, ungraded),
    ),
    Fault("30 % of the labels random", ("comparisons: labels_contradict_verifier",), (random_labels,)),
    Fault("30 % random, which nothing grades", ("preference: labels_disagree",), (random_labels, ungraded)),
    Fault("length the only signal, the longer wins", ("comparisons: length_is_the_signal",), (by_length, ungraded)),
    Fault(
        "step size 10 times too large",
        ("preference: chosen_falls", "preference: contract_falls", "preference: moved_too_far"),
        settings={"learning_rate": 1.5e-3, "chosen_nll_weight": 0.0},
    ),
    Fault(
        "a reward that likes one phrase, PPO",
        ("preference: labels_swapped", "preference: reward_is_gamed", "gate: contract.sampled_exact"),
        judge_likes=with_phrase,
    ),
    Fault(
        "a reference that is not the SFT model", ("preference: reference_is_not_the_start",), reference_is_the_base=True
    ),
    Fault("prompts of the evaluation", ("comparisons: asks_evaluation_items",), (of_evaluation,)),
)


@dataclass
class Outcome:
    """How a run went: what was said, where it was stopped, and the gate's verdict where it came so far."""

    fault: str
    seed: int
    sft: str = ""  # the digest of the model it learned from, in short
    said: list[str] = field(default_factory=list)
    stopped: str = ""
    why: str = ""
    verdict: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    as_expected: bool = False


class Chain:
    """From one SFT model to a verdict, a store of its own for each fault: what one leaves, no other reads."""

    def __init__(self, upstream: Path, fault: Fault | None, seed: int) -> None:
        self.fault = fault or Fault("healthy", ())
        name = "-".join(re.findall(r"\w+", self.fault.name))
        self.upstream, self.store = upstream, Store(upstream / "planted" / name)
        self.recipe, self.row = tiny(seed), Outcome(self.fault.name, seed)
        self.suites = Suites.load(newest(upstream, "suites"))
        self.corpus = Corpus.load(newest(upstream, "corpus"))
        models = sealed(upstream, "sft")
        self.sft = Checkpoint.load(models[seed % len(models)])
        self.row.sft = self.sft.digest[:12]

    def run(self) -> Outcome:
        """To the verdict, or to whoever stops it."""
        started = time.monotonic()
        try:
            self._to_the_gate()
        except LifecycleError as error:
            stage = self.stage
            self.row.stopped, self.row.why = stage, str(error)
            self.row.said.append(f"{stage}: {_name_in(str(error))}")
        self.row.seconds = round(time.monotonic() - started, 1)
        said, expected = set(self.row.said), set(self.fault.expected)
        is_named = bool(said & expected) and self.row.verdict != "PROMOTE"
        self.row.as_expected = is_named if expected else not said and self.row.verdict == "PROMOTE"
        return self.row

    def _to_the_gate(self) -> None:
        comparisons = self._comparisons("pairs", self.fault.changes)
        if self.fault.reference_is_the_base:
            self._forge_reference(comparisons)
        candidate = self._by_ppo(comparisons) if self.fault.judge_likes else self._by_pairs(comparisons)
        self.row.said += [f"preference: {name}" for name in candidate.findings]
        report: EvalReport = self._make(evaluate, self.recipe.evaluate, candidate, self.suites, self.corpus)
        means = {name: score.mean for name, score in report.scores.items() if "bits" not in name}
        self.row.scores = {name: round(mean, 4) for name, mean in means.items() if mean is not None}
        decision: GateDecision = self._make(decide_gate, instructgpt().gate, report)
        broken = [check for check in decision.checks if check.required and check.verdict != "PASS"]
        self.row.verdict = decision.verdict
        if not decision.promote:
            self.row.said += [f"gate: {check.metric}" for check in broken]
            self.row.why = "; ".join(f"{check.metric} {check.verdict.lower()}: {check.reason}" for check in broken)

    def _make(self, stage: Callable[..., Any], config: StageConfig | None, *inputs: Any) -> Any:
        assert config is not None
        self.stage = config.stage
        if "threads" in type(config).model_fields:
            config = config.model_copy(update={"threads": 1})
        return self.store.make(stage, config, *inputs, on_drift="accept").artifact

    def _comparisons(self, name: str, changes: Sequence[Callable[[Pairs], Pairs]]) -> Comparisons:
        """The recipe's pairs with the fault in them, as the stage takes them, and what it says of them."""
        assert self.recipe.comparisons is not None
        files = {}
        for side, file in (("train", self.recipe.comparisons.train), ("heldout", self.recipe.comparisons.heldout)):
            assert file is not None
            rows = _rows(file)
            for change in changes:
                rows = change(rows) if side == "train" or change is not of_evaluation else rows
            files[side] = self.store.root / f"{name}-{side}.jsonl"
            write_rows(files[side], rows)
        made: Comparisons = self._make(curate_comparisons, ComparisonsConfig(**files, licence="facts"), self.suites)
        warnings = json.loads((made.path / REPORT).read_bytes())["warnings"]
        self.row.said += [f"comparisons: {warning.partition(':')[0]}" for warning in warnings]
        return made

    def _by_pairs(self, comparisons: Comparisons) -> Checkpoint:
        config = self.recipe.preference
        assert config is not None
        changed = type(config).model_validate({**dict(config), "drift": WATCHED, **self.fault.settings})
        made: Checkpoint = self._make(align, changed, self.sft, comparisons)
        return made

    def _by_ppo(self, comparisons: Comparisons) -> Checkpoint:
        """The recipe's own PPO; its judge learned from pairs in which the fault is the only signal."""
        recipe: LifecycleConfig = instructgpt(self.row.seed)
        assert self.fault.judge_likes is not None
        liked = self._comparisons("judge", (self.fault.judge_likes, ungraded))
        judge = self._make(train_reward, recipe.reward, self.sft, liked)
        made: Checkpoint = self._make(align_online, recipe.preference, self.sft, comparisons, judge)
        return made

    def _forge_reference(self, comparisons: Comparisons) -> None:
        """Put the base's log-probabilities where the SFT model's are looked for, sealed under their key."""
        from lifecycle.stages.preference import PreferenceJob
        from lifecycle.training import pairs, reference
        from lifecycle.training.compared import handed
        from lifecycle.workers import posttrain
        from lifecycle.workers.pairs import both_answers, read_both

        config = self.recipe.preference
        out = self.store.root / "artifacts" / "preference" / "forged"
        job = PreferenceJob(config=config, **handed(self.sft, comparisons, out))
        spoken = posttrain.load_protocol(self.sft.path)
        asked = both_answers(read_both(job, spoken)[0].rows)
        base = posttrain.load_model(newest(self.upstream, "pretrain")).eval()
        pairs.score_answers(base)
        key = reference.key_of(asked, self.sft.digest, job.config.precision, base.config._attn_implementation)

        def score(some: Any) -> Any:
            return pairs.log_probs(base, pairs.padded(some, pad_id=spoken.renderer.protocol.pad_id))[0].detach()

        values, _ = reference.reference(asked, score, None, key, precision=job.config.precision)
        reference.seal(references_of(out) / f"{key[:32]}.safetensors", key, values)


def _name_in(message: str) -> str:
    """The rule's name in an error's message."""
    found = re.search(r"\b[a-z]+(?:_[a-z]+)+\b", message)
    return found.group() if found else message[:60]


def shown(row: Outcome) -> str:
    said = ", ".join(row.said) or "nothing"
    score = f"{row.scores['contract.sampled_exact']:.3f}" if row.scores else ""
    seed = f", seed {row.seed}" if row.fault == "healthy" else ""
    return f"| {row.fault}{seed} | {said} | {row.stopped or row.verdict} | {score} | {row.seconds:.0f} |"


def main() -> int:
    """Print a row a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(os.environ.get("LIFECYCLE_STORE", ".lifecycle")))
    parser.add_argument("--seeds", type=int, default=10, help="healthy runs")
    parser.add_argument("--faults", nargs="*", type=int, default=range(len(FAULTS)), help="their numbers, from 0")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chains = [Chain(options.store, FAULTS[number], seed=0) for number in options.faults]
    chains += [Chain(options.store, None, seed) for seed in range(options.seeds)]
    print("| run | who said what | stopped at, or verdict | sampled exact | seconds |\n|---|---|---|---:|---:|")
    rows: list[Outcome] = []
    for chain in chains:
        rows.append(chain.run())
        print(shown(rows[-1]), flush=True)
        if options.json:
            options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    for row in (wrong := [row for row in rows if not row.as_expected]):
        print(f"not as expected: {row.fault}, seed {row.seed}: {row.why}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
