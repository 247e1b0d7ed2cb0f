"""The whole chain with stages that take no time: what flows and tasks do is tested on it, without training anything.

Run as a program it is `python -m flows.<name>` on the fake stages: `python fake_house.py full_lifecycle --set ...`.
Each stage writes one small file. `quality` of the last training stage becomes the score the gate looks at.
"""

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

from lifecycle import progress
from lifecycle.artifacts import (
    Artifact,
    Check,
    Checkpoint,
    Comparisons,
    Corpus,
    Demonstrations,
    EvalReport,
    GateDecision,
    Release,
    Score,
    SourceCount,
    Suites,
    Tokenizer,
    TokenShards,
)
from lifecycle.errors import ContractError, WorkerFailed
from lifecycle.sealing import StageConfig
from lifecycle.spread import spread

RECIPE = f"{__file__}:fake"


class FakeConfig(StageConfig):
    stage: ClassVar[str] = "fake"
    seconds: float = 0.0
    quality: float = 0.7
    fail: str | None = None
    file: Path | None = None
    shards: int = 0
    model: str | None = None


class FakeGateConfig(FakeConfig):
    floor: float = 0.5
    inconclusive: bool = False
    confidence: float = 0.95
    looks: int = 1
    approval: str = "none"


class FakeComparisonsConfig(FakeConfig):
    sampled: None = None


class FakePreferenceConfig(FakeConfig):
    """By its method a recipe knows it from a config of methods that learn online."""

    method: Literal["dpo"] = "dpo"


BASES = {"gate": FakeGateConfig, "comparisons": FakeComparisonsConfig, "preference": FakePreferenceConfig}


def at_work(config: FakeConfig, out_dir: Path) -> None:
    """Take the configured time, say how far it is, leave a file and a metrics curve."""
    steps = max(1, round(config.seconds / 0.05))
    with (out_dir.parent / "times_run").open("a") as trace:
        trace.write("x")
    for step in range(steps):
        time.sleep(config.seconds / steps)
        progress.report(step + 1, steps, "steps", f"loss {1 / (step + 1):.2f}")
    if config.shards:
        from spread_work import killed_once

        spread(killed_once, [(number, out_dir.parent) for number in range(config.shards)], unit="shards")
    if config.fail == "worker" and len((out_dir.parent / "times_run").read_text()) == 1:
        raise WorkerFailed("died without a word")
    if config.fail == "contract":
        raise ContractError("expected one thing, found another. Do something.")
    if config.fail == "bug":
        raise ZeroDivisionError("a mistake in our code")
    (out_dir / "log").mkdir(exist_ok=True)
    (out_dir / "log" / "metrics.jsonl").write_text(
        '{"step": 1, "time": 1.0, "loss": 2.5}\n{"step": 2, "time": 2.0, "loss": 1.5}\n'
    )
    (out_dir / "decision.md").write_text("the page of a decision")
    (out_dir / "content.txt").write_text(config.model_dump_json(exclude={"seconds", "fail", "file", "shards"}))
    for name, content in FILES.get(config.stage, {}).items():
        (out_dir / name).write_text(json.dumps(content))


def stage(kind: type[Artifact], make_facts: Callable[..., dict[str, Any]]) -> Callable[..., Artifact]:
    def run(config: FakeConfig, *given: Artifact | None, out_dir: Path) -> Artifact:
        inputs = [artifact for artifact in given if artifact is not None]
        at_work(config, out_dir)
        if kind is Release:  # what users load is the candidate, file for file
            (out_dir / "model").mkdir()
            for name in inputs[0].manifest.files:
                (out_dir / "model" / name).write_bytes((inputs[0].path / name).read_bytes())
        return kind(path=out_dir, **make_facts(config, *inputs)).seal(config, *inputs)

    run.__annotations__["return"] = kind
    return run


def trained(role: str) -> Callable[..., dict[str, Any]]:
    def facts(config: FakeConfig, *inputs: Artifact) -> dict[str, Any]:
        sizes = {"parameters": 1_300_000, "max_seq_len": 128, "steps": 10, "tokens_seen": 1000}
        return {"role": role, **sizes, "protocol_digest": "p", "final_loss": config.quality}

    return facts


def report_facts(
    config: FakeConfig, checkpoint: Checkpoint, suites: Suites, text: Corpus | Demonstrations
) -> dict[str, Any]:
    mean = checkpoint.final_loss
    score = Score(mean=mean, low=mean - 0.02, high=mean + 0.02, items=100)
    digests = {"checkpoint_digest": checkpoint.digest, "protocol_digest": "p", "suites_digest": suites.digest}
    return {**digests, "scores": {"contract.exact": score}, "baselines": {"majority": 0.4}}


def decision_facts(
    config: FakeGateConfig, report: EvalReport, live: EvalReport | None = None, baseline: Checkpoint | None = None
) -> dict[str, Any]:
    mine, theirs = report.scores["contract.exact"].mean, live.scores["contract.exact"].mean if live else None
    checks = [check("floor", mine >= config.floor, f"at least {config.floor}", mine)]
    if theirs is not None:
        worse = {"live": theirs, "difference": mine - theirs, "low": mine - theirs - 0.01, "high": mine - theirs + 0.01}
        checks.append(
            check("guard", mine >= theirs, "not below the live release", mine, items=["item-7", "item-9"], **worse)
        )
    passed = all(c.verdict == "PASS" for c in checks)
    verdict = "INCONCLUSIVE" if config.inconclusive else "PROMOTE" if passed else "BLOCK"
    digests = {"checkpoint_digest": report.checkpoint_digest, "report_digest": report.digest}
    against = live.checkpoint_digest if live and not baseline else None
    return {
        "verdict": verdict,
        **digests,
        "against": against,
        "baseline": baseline.digest if baseline else None,
        "checks": checks,
    }


def check(rule: str, passed: bool, reason: str, candidate: float, **more: Any) -> Check:
    return Check(
        metric="contract.exact",
        rule=rule,
        verdict="PASS" if passed else "FAIL",
        reason=reason,
        candidate=candidate,
        **more,
    )


def release_facts(
    config: FakeConfig, checkpoint: Checkpoint, decision: GateDecision, report: EvalReport
) -> dict[str, Any]:
    digests = {
        "checkpoint_digest": checkpoint.digest,
        "decision_digest": decision.digest,
        "report_digest": report.digest,
    }
    return {**digests, "scores": {"contract.exact": report.scores["contract.exact"].mean}}


# What a data card is drawn from: of ten rows one was too short.
LEFT = {"documents": 9, "bytes": 9000}
DROPPED = {"gopher_word_count": {"documents": 1, "bytes": 10}}
SHARE = {"available_bytes": 8000, "train_bytes": 8000, "train_rows": 8, "epochs": 1.0, "share": 1.0}
REPORT = {
    "steps": [
        {"name": "read", "sources": {"a": {"entered": {"documents": 10, "bytes": 9010}, "left": LEFT}}},
        {"name": "quality", "sources": {"a": {"entered": LEFT, "left": LEFT, "dropped": DROPPED}}},
    ],
    "lengths": {"a": {"edges": [1, 2, 4], "kept": [4, 5], "dropped": [1, 0]}},
    "decontamination": {
        "items": 9, "items_without_a_distinctive_ngram": 0, "distinctive_ngrams": 9, "items_found": {},
    },
    "mixture": {"train_bytes": 8000, "sources": {"a": SHARE}},
    "validation": {"a": {"asked_documents": 1, "documents": 1, "bytes": 1000}},
}  # fmt: skip
FIT_SOURCE = {"documents": 8, "bytes": 8000, "tokens": 4000, "bytes_per_token": 2.0, "tokens_per_word": 2.5}
FIT = {
    "vocab_size": 2048, "learned_tokens": 1785, "unused_in_sample": 0, "rare_in_sample": 0, "unreachable": 0,
    "partial_utf8": 0, "examples": {},
    "sources": {"a": {**FIT_SOURCE, "reference_bytes_per_token": None, "changed_documents": 0}},
}  # fmt: skip
FILES = {"corpus": {"report.json": REPORT}, "tokenizer": {"fit.json": FIT}}
SOURCE = SourceCount(licence="CC0", read=10, kept=9, kept_bytes=9000)
SUITES = {"items": {"contract": 9}, "baselines": {"contract": 0.4}}
SHARDS = {"max_seq_len": 128, "vocab_size": 2048, "rows": 100, "validation_rows": 5, "tokens": 12800, "dtype": "uint16"}
TOKENIZER = {"vocab_size": 2048, "bos_id": 0, "pad_id": 1, "stop_id": 2, "protocol_digest": "p"}
CORPUS = {"train_documents": 9, "validation_documents": 1, "sources": {"a": SOURCE}}
COMPARISONS = {"train_pairs": 10, "heldout_pairs": 2, "dropped": {}, "length_alone_predicts": 0.5}


def cleaned_of(facts: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    return lambda config, suites: {**facts, "suites_digest": suites.digest}


def always(facts: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    return lambda config, *inputs: facts


# Stage -> names of its config and its function, and a function that takes no time.
STAGES: dict[str, tuple[str, str, Callable[..., Artifact]]] = {
    "suites": (
        "SuitesConfig",
        "collect_suites",
        stage(Suites, always({"items": {"c": 9}, "baselines": {}})),
    ),
    "base": ("BaseConfig", "adopt_base", stage(Checkpoint, trained("base"))),
    "corpus": ("CorpusConfig", "build_corpus", stage(Corpus, cleaned_of(CORPUS))),
    "tokenizer": ("TokenizerConfig", "train_tokenizer", stage(Tokenizer, always(TOKENIZER))),
    "shards": (
        "ShardsConfig",
        "pack_shards",
        stage(TokenShards, always({**SHARDS, "tokens_by_source": {"a": 12800}, "protocol_digest": "p"})),
    ),
    "pretrain": ("PretrainConfig", "pretrain", stage(Checkpoint, trained("base"))),
    "demonstrations": (
        "DemonstrationsConfig",
        "curate_demonstrations",
        stage(Demonstrations, cleaned_of({"train_rows": 10, "dev_rows": 2, "dropped": {}})),
    ),
    "sft": ("SftConfig", "fine_tune", stage(Checkpoint, trained("sft"))),
    "comparisons": ("ComparisonsConfig", "curate_comparisons", stage(Comparisons, cleaned_of(COMPARISONS))),
    "preference": ("PreferenceConfig", "align", stage(Checkpoint, trained("preference"))),
    "evaluate": ("EvaluateConfig", "evaluate", stage(EvalReport, report_facts)),
    "gate": ("GateConfig", "decide_gate", stage(GateDecision, decision_facts)),
    "release": ("ReleaseConfig", "release", stage(Release, release_facts)),
}


def move_in() -> None:
    """Put the fake stages where the real ones are; call it before anything imports them."""
    for name, (config_name, function_name, function) in STAGES.items():
        module = ModuleType(f"lifecycle.stages.{name}")
        base = BASES.get(name, FakeConfig)
        # Made by type(): each stage needs a class of its own, with its own name.
        config = type(
            config_name,
            (base,),
            {"stage": name, "__annotations__": {"stage": ClassVar[str]}, "__module__": module.__name__},
        )
        setattr(module, config_name, config)
        setattr(module, function_name, function)
        if name == "tokenizer":
            module.AdoptTokenizerConfig = config  # the other ways to one
            module.BaseTokenizerConfig = type("BaseTokenizerConfig", (config,), {"__module__": module.__name__})
        sys.modules[module.__name__] = module


def fake():
    """The recipe: every stage as it comes."""
    from lifecycle.recipes import LifecycleConfig

    configs = {name: getattr(sys.modules[f"lifecycle.stages.{name}"], STAGES[name][0])() for name in STAGES}
    del configs["base"]
    return LifecycleConfig(name="fake", **configs, typical_seconds=dict.fromkeys(STAGES, 1.0))


def adopting():
    """A recipe that starts from a base as it is and learns from no choices."""
    from lifecycle.recipes import LifecycleConfig

    names = ("suites", "base", "demonstrations", "sft", "evaluate", "gate", "release")
    configs = {name: getattr(sys.modules[f"lifecycle.stages.{name}"], STAGES[name][0])() for name in names}
    configs["base"] = configs["base"].model_copy(update={"quality": 0.6})
    return LifecycleConfig(name="adopting", **configs)


@contextlib.contextmanager
def setting(environment: dict[str, str]) -> Iterator[None]:
    """Variables for one command. What the command itself sets stays: the server it started serves the next ones."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    yield
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def obey() -> None:
    """Run one command a line ({"flow", "arguments", "environment"}) in this process and answer {"code", "text"}.

    The imports of Prefect and MLflow, and the start of the server, cost once.
    """
    from flows import cli

    answers = sys.stdout
    for line in sys.stdin:
        command = json.loads(line)
        text = io.StringIO()
        with setting(command["environment"]), contextlib.redirect_stderr(text), contextlib.redirect_stdout(text):
            named = (*cli.OF_RUNS, *cli.LOOKING)
            recipe = [] if command["flow"] in named else ["--recipe", command.get("recipe", RECIPE)]
            code = cli.main(command["flow"], [*recipe, *command["arguments"]])
        print(json.dumps({"code": code, "text": text.getvalue()}), file=answers, flush=True)


if __name__ == "__main__":
    move_in()
    if len(sys.argv) == 1:
        sys.exit(obey())
    from flows import cli

    flow, *arguments = sys.argv[1:]
    sys.exit(cli.main(flow, ["--recipe", RECIPE, *arguments]))
