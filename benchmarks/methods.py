"""Every way to learn from the same comparisons: DPO, IPO, KTO, ORPO, SimPO, a reward model and PPO, RLOO, GRPO.

    python -m benchmarks.methods --store .lifecycle-methods --seeds 0 1 2 --json docs/methods.json --markdown FILE

All start from one SFT model of the tiny recipe a seed. Held-out pairs say how often the better answer gained on the
other, held-out items of the contract how answers are, samples to held-out prompts how far the model went. A row is
written when it is there; a second call reuses what is sealed. Exit code 1 where PPO, RLOO or GRPO misses the bar:
sampled exact + 0.15, greedy correct - 0.03.
"""

import argparse
import json
import math
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lifecycle.artifacts import Checkpoint, Comparisons, EvalReport
from lifecycle.chat import examples
from lifecycle.chat.examples import Comparison
from lifecycle.chat.render import load_renderer
from lifecycle.data.jsonl import load_rows
from lifecycle.evaluation.decoding import Decoding, Prompt, decode
from lifecycle.evaluation.faster import faster
from lifecycle.evaluation.kinds.next_token import BITS
from lifecycle.evaluation.likelihood import Question, log_probabilities
from lifecycle.recipes import LifecycleConfig
from lifecycle.recipes.instructgpt import instructgpt
from lifecycle.recipes.tiny import tiny
from lifecycle.sealing import StageConfig
from lifecycle.stages.comparisons import curate_comparisons
from lifecycle.stages.corpus import build_corpus
from lifecycle.stages.demonstrations import curate_demonstrations
from lifecycle.stages.evaluate import evaluate
from lifecycle.stages.online import OnlineConfig, align_online
from lifecycle.stages.preference import PreferenceConfig, align
from lifecycle.stages.pretrain import pretrain
from lifecycle.stages.reward import train_reward
from lifecycle.stages.sft import fine_tune
from lifecycle.stages.shards import pack_shards
from lifecycle.stages.suites import collect_suites
from lifecycle.stages.tokenizer import train_tokenizer
from lifecycle.store import Store
from lifecycle.training import drift
from lifecycle.workers.posttrain import load_model

OFFLINE: dict[str, dict[str, Any]] = {
    "dpo": {},
    "ipo": {"method": "ipo", "chosen_nll_weight": 0.0},
    "kto": {"method": "kto"},
    "orpo": {"method": "orpo", "chosen_nll_weight": 0.0},
    "simpo": {"method": "simpo"},
}
"""Changes to the recipe's DPO."""
VERIFIED = {"reward_source": "contract", "batch_prompts": 32, "answers_per_prompt": 4, "kl_coefficient": 0.05}
ONLINE: dict[str, dict[str, Any]] = {
    "ppo": {},
    "rloo": {"method": "rloo", **VERIFIED},
    "grpo": {"method": "grpo", **VERIFIED},
}
"""Changes to recipe `instructgpt`'s PPO."""
METHODS = (*OFFLINE, *ONLINE)
SFT = "sft"
EXACT, CORRECT, TERSE = "contract.sampled_exact", "contract.greedy_correct", "contract.sampled_terse"
MOST_TOKENS = 32
GAIN, LOSS = 0.15, 0.03


@dataclass(frozen=True)
class Drift:
    """How far a model is from the SFT model, over held-out pairs and one sample to each of their prompts."""

    preference_accuracy: float
    """Pairs whose better answer gained on the other; of the SFT model itself, those it finds likelier."""
    kl: float
    """Nats an answer, sampled from the model."""
    kl_token: float
    length_ratio: float
    chosen_change: float
    """Of chosen answers, nats a token."""
    distinct_2: float
    """Distinct pairs of tokens in the samples, as a share of those in the SFT model's."""


@dataclass(frozen=True)
class Row:
    """One method on one seed."""

    method: str
    seed: int
    preference_accuracy: float
    contract_score: float
    sampled_exact: float
    terse_share: float
    kl: float
    kl_token: float
    length_ratio: float
    chosen_change: float
    distinct_2: float
    bits_per_byte: float
    seconds: float
    """Of CPU, start and imports included: those of a clock would be the machine's other work. NaN: made elsewhere."""


class Bench:
    """One seed: its SFT model, its comparisons, and what every method makes of them."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store, self.seed, self.recipe = store, seed, tiny(seed)
        self.notes = store.root / "cpu_seconds.json"
        self.spent: dict[str, float] = json.loads(self.notes.read_bytes()) if self.notes.exists() else {}
        config = self.recipe
        self.suites = self.make(collect_suites, config.suites)
        self.corpus = self.make(build_corpus, config.corpus, self.suites)
        tokenizer = self.make(train_tokenizer, config.tokenizer, self.corpus)
        base = self.make(
            pretrain, config.pretrain, self.make(pack_shards, config.shards, self.corpus, tokenizer), tokenizer
        )
        shown = self.make(curate_demonstrations, config.demonstrations, self.suites)
        self.sft: Checkpoint = self.make(fine_tune, config.sft, base, shown)
        self.comparisons: Comparisons = self.make(curate_comparisons, config.comparisons, self.suites)

    def make(self, stage: Callable[..., Any], config: StageConfig | None, *inputs: Any) -> Any:
        assert config is not None
        if "threads" in type(config).model_fields:  # seconds are those of one core, whoever has the others
            config = config.model_copy(update={"threads": 1})
        before = of_children()
        made = self.store.make(stage, config, *inputs, on_drift="accept")
        if not made.reused:  # noted beside the artifact: a second call reads it
            self.spent[made.artifact.digest] = of_children() - before
            self.notes.write_text(json.dumps(self.spent))
        print(f"  seed {self.seed} {made.artifact.path.parent.name:<14} {made.seconds:.1f} s", flush=True)
        return made.artifact

    def trained(self, method: str) -> tuple[Checkpoint, float]:
        """What a method makes of the SFT model, and the CPU seconds it took, its reward model's too."""
        if method == SFT:
            return self.sft, 0.0
        if method in OFFLINE:
            assert isinstance(self.recipe.preference, PreferenceConfig)
            config = PreferenceConfig(**{**dict(self.recipe.preference), **OFFLINE[method]})
            made = self.make(align, config, self.sft, self.comparisons)
            return made, self.spent.get(made.digest, math.nan)
        recipe = online(method, self.seed)
        judge = self.make(train_reward, recipe.reward, self.sft, self.comparisons) if recipe.reward else None
        made = self.make(align_online, recipe.preference, self.sft, self.comparisons, judge)
        return made, sum(self.spent.get(one.digest, math.nan) for one in (made, judge) if one)

    def row(self, method: str) -> Row:
        checkpoint, seconds = self.trained(method)
        report: EvalReport = self.make(evaluate, self.recipe.evaluate, checkpoint, self.suites, self.corpus)
        means = {name: score.mean for name, score in report.scores.items()}
        scores = {"contract_score": CORRECT, "sampled_exact": EXACT, "terse_share": TERSE, "bits_per_byte": BITS}
        found: dict[str, Any] = {name: means[metric] for name, metric in scores.items()}
        return Row(method, self.seed, **found, **asdict(self.apart(checkpoint)), seconds=seconds)

    def apart(self, checkpoint: Checkpoint) -> Drift:
        """The checkpoint beside the SFT model it came from."""
        renderer = load_renderer(self.sft.path)
        rows = load_rows(self.comparisons.path / "heldout.jsonl")
        pairs = examples.comparisons(renderer, rows, max_seq_len=self.sft.max_seq_len).rows
        policy, reference = (faster(load_model(folder).eval()) for folder in (checkpoint.path, self.sft.path))
        now, then = of_pairs(policy, pairs), of_pairs(reference, pairs)
        moved = [(a - c, b - d) for (a, b), (c, d) in zip(now, then, strict=True)]
        margins = [chosen - rejected for chosen, rejected in (now if checkpoint.digest == self.sft.digest else moved)]
        stop = renderer.protocol.stop_id
        decoding = Decoding(stop, MOST_TOKENS, 1.0, 0, greedy=False, samples=1)
        prompts = [Prompt(str(n), pair.prompt_ids) for n, pair in enumerate(pairs)]
        said, before = decode(policy, prompts, decoding), decode(reference, prompts, decoding)
        questions = [Question(draw.prompt.ids, [draw.ids + [stop] * draw.stopped]) for draw in said]
        known = log_probabilities(reference, questions)
        nats = [draw.log_probability - one.log_probability for draw, (one,) in zip(said, known, strict=True)]
        tokens, tokens_before = (sum(len(draw.ids) + draw.stopped for draw in some) for some in (said, before))
        lengths = [len(pair.chosen_ids) for pair in pairs]
        return Drift(
            preference_accuracy=statistics.fmean((m > 0) + (m == 0) / 2 for m in margins),
            kl=statistics.fmean(nats),
            kl_token=sum(nats) / tokens,
            length_ratio=tokens / tokens_before,
            chosen_change=statistics.fmean(chosen / n for (chosen, _), n in zip(moved, lengths, strict=True)),
            distinct_2=drift.distinct([draw.ids for draw in said], 2) / drift.distinct([d.ids for d in before], 2),
        )


def online(method: str, seed: int) -> LifecycleConfig:
    """The recipe `instructgpt` with another method; without a reward model where the contract scores."""
    recipe = instructgpt(seed)
    assert isinstance(recipe.preference, OnlineConfig)
    # Unwatched, as the offline ones are: what is measured here is measured of all of them, and watching costs seconds.
    config = OnlineConfig(**{**dict(recipe.preference), "drift": None, **ONLINE[method]})
    reward = recipe.reward if config.reward_source == "model" else None
    return LifecycleConfig(**{**dict(recipe), "preference": config, "reward": reward})


def of_children() -> float:
    """CPU seconds of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def of_pairs(model: Any, pairs: Sequence[Comparison]) -> list[tuple[float, float]]:
    """ln p of each pair's chosen and rejected answer."""
    asked = [Question(pair.prompt_ids, [pair.chosen_ids, pair.rejected_ids]) for pair in pairs]
    found = log_probabilities(model, asked)
    return [(chosen.log_probability, rejected.log_probability) for chosen, rejected in found]


RESULTS = {
    "preference_accuracy": "held-out pairs",
    "contract_score": "greedy correct",
    "sampled_exact": "sampled exact",
    "terse_share": "sampled terse",
    "kl": "KL, nats an answer",
    "seconds": "CPU seconds",
}
DRIFT = {
    "kl": "KL, nats an answer",
    "kl_token": "KL, nats a token",
    "chosen_change": "chosen answers, nats a token",
    "length_ratio": "length ratio",
    "distinct_2": "distinct pairs left",
    "bits_per_byte": "bits per byte",
}


def table(rows: Sequence[Row], columns: dict[str, str]) -> str:
    """Means over the seeds, from the lowest to the highest seed, a method a line, in Markdown."""
    lines = [f"| method | seeds | {' | '.join(columns.values())} |", "|---|---:|" + "---:|" * len(columns)]
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        cells = [shown([getattr(row, name) for row in own], digits=0 if name == "seconds" else 3) for name in columns]
        lines.append(f"| {method} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown(values: Sequence[float], *, digits: int) -> str:
    """The mean of the seeds, and where they differ, their range."""
    lowest, mean, highest = (
        f"{round(one, digits) + 0.0:.{digits}f}" for one in (min(values), statistics.fmean(values), max(values))
    )
    return mean if lowest == highest else f"{mean} ({lowest} to {highest})"


def missed(rows: Sequence[Row]) -> list[str]:
    """The online methods that do not gain what they must over SFT, as means over the seeds."""

    def mean(method: str, name: str) -> float:
        return statistics.fmean(getattr(row, name) for row in rows if row.method == method)

    found = []
    for method in {row.method for row in rows} & set(ONLINE):
        gained = mean(method, "sampled_exact") - mean(SFT, "sampled_exact")
        lost = mean(SFT, "contract_score") - mean(method, "contract_score")
        if gained < GAIN or lost > LOSS:
            found.append(f"{method}: sampled exact {gained:+.3f} (at least +{GAIN}), greedy correct {-lost:+.3f}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(".lifecycle-methods"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="both tables, of the rows that are there")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    rows: list[Row] = []
    for seed in arguments.seeds:
        bench = Bench(Store(arguments.store), seed)
        for method in (SFT, *arguments.methods):
            rows.append(bench.row(method))
            tables = f"{table(rows, RESULTS)}\n\n{table(rows, DRIFT)}\n"
            if arguments.json:
                arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
            if arguments.markdown:
                arguments.markdown.write_text(tables)
    print(tables)
    for line in missed(rows):
        print(f"missed: {line}")
    return 1 if missed(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
