"""A checkpoint's scores on what was held out: every suite's items, and bits per byte of every source."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from lifecycle import contracts
from lifecycle.artifacts import Checkpoint, Contamination, Corpus, Demonstrations, EvalReport, Suites
from lifecycle.chat import golden
from lifecycle.chat.render import load_renderer
from lifecycle.data.decontaminate import NgramRule
from lifecycle.data.jsonl import Row, load_rows
from lifecycle.data.order import hash64
from lifecycle.errors import ContractError
from lifecycle.evaluation.contamination import contamination_of
from lifecycle.evaluation.encode import Encoder
from lifecycle.evaluation.items import Item, read_items
from lifecycle.evaluation.kinds import AnySuite, drift, sealed_suite
from lifecycle.evaluation.kinds.next_token import BITS
from lifecycle.evaluation.metrics import measured, scores
from lifecycle.launch import Job, cores, run_worker
from lifecycle.sealing import SCRATCH_FOLDER, StageConfig, how_it_ran

WORKER = "lifecycle.workers.evaluate"


class EvaluateConfig(StageConfig):
    """How a checkpoint is measured. Two reports can be compared when these settings, suites and texts are equal."""

    stage: ClassVar[str] = "evaluate"
    revision: ClassVar[int] = 2
    max_new_tokens: int = Field(32, ge=1, description="Longest answer; one that does not stop within it is cut.")
    sampled_temperature: float = Field(1.0, gt=0, description="Of the sampled answer; 1 samples what was learned.")
    seed: int = Field(0, description="Names the random numbers of the sampled answers.")
    items_per_suite: PositiveInt | dict[str, PositiveInt] | None = Field(
        None, description="Items of each suite and documents of each source, in an order drawn by the seed; or by name."
    )
    validation_documents_per_source: int | None = Field(
        None, ge=2, description="At most so many are scored, chosen by hash; None scores all."
    )
    context_tokens: int = Field(
        0, ge=0, description="Of a document's last window shown again, unscored, before the next: more is slower."
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Of the two-sided intervals in the report.")
    contamination: NgramRule = Field(
        NgramRule(ngram_words=8), description="What counts as an item found in the training text. It removes nothing."
    )
    batch_items: int = how_it_ran(64, ge=1, description="Prompts or text windows at once.")
    threads: int | None = how_it_ran(None, ge=1, description="Batches at a time on CPUs; None: one a core.")
    ranks: int | None = how_it_ran(None, ge=1, description="Processes, each with its own GPU; None: one process.")

    def items_of(self, suite: str) -> int | None:
        """How many of a suite's items are scored; None: all."""
        return self.items_per_suite.get(suite) if isinstance(self.items_per_suite, dict) else self.items_per_suite

    def scoring(self) -> dict[str, Any]:
        """The settings that move an item's score, as opposed to which items there are and how they are shown."""
        shown = {"confidence", "contamination", "batch_items", "threads", "ranks"}
        which = {"items_per_suite", "validation_documents_per_source"}
        return self.model_dump(mode="json", exclude=shown | which)


class EvaluateJob(Job):
    """What `lifecycle.workers.evaluate` is handed."""

    config: EvaluateConfig
    model: Path
    suites: tuple[AnySuite, ...]
    train_file: Path | None
    validation_file: Path | None
    max_seq_len: int
    threads: int
    earlier: Path | None = None
    """A report on the same checkpoint whose records are taken over."""


class Evaluated(BaseModel):
    """What the worker brings back beside the item records."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    items: int
    copied_items: int = 0
    baselines: dict[str, float]


def evaluate(
    config: EvaluateConfig,
    checkpoint: Checkpoint,
    suites: Suites,
    corpus: Corpus | None = None,
    earlier: EvalReport | None = None,
    demonstrations: Demonstrations | None = None,
    *,
    out_dir: Path,
) -> EvalReport:
    """Ask every suite's items, score every validation document, and keep the record of each.

    Without a corpus, where the base was adopted and trained on no text here, suites are all there is to score, and
    they are looked for in the demonstrations.
    What `earlier`, a report on fewer items of the same checkpoint, has scored in the same way is copied.
    """
    contracts.holds_items(suites)
    if corpus is not None:
        contracts.has_documents(corpus)
        contracts.decontaminated(corpus, suites)
    if demonstrations is not None:
        contracts.decontaminated(demonstrations, suites)
    _speaks_as_recorded(checkpoint)
    _fits(config, checkpoint, suites)
    scoring = _scoring_digest(config, suites, corpus)
    if earlier is not None:
        earlier = EvalReport.load(earlier.path)  # its records are copied: every byte checked, not what we were told
        _can_be_copied(earlier, checkpoint, scoring)
    job = EvaluateJob(
        out_dir=out_dir,
        scratch_dir=out_dir / SCRATCH_FOLDER,
        config=config,
        model=checkpoint.path,
        suites=tuple(sealed_suite(suites, name) for name in sorted(suites.items)),
        train_file=None if corpus is None else corpus.train_file,
        validation_file=None if corpus is None else corpus.validation_file,
        max_seq_len=checkpoint.max_seq_len,
        threads=config.threads or cores(),
        earlier=None if earlier is None else earlier.path,
    )
    # In a thread: it counts n-grams while the worker imports torch, and costs nobody's time.
    with ThreadPoolExecutor(1) as aside:
        contamination = aside.submit(_contamination, config, suites, corpus or demonstrations)
        result = run_worker(WORKER, job, Evaluated, ranks=config.ranks, threads=1, on_accelerators=True)
    items = list(read_items(out_dir))
    _nothing_is_missing(config, suites, corpus, checkpoint, items)
    return EvalReport(
        path=out_dir,
        checkpoint_digest=checkpoint.digest,
        protocol_digest=checkpoint.protocol_digest,
        suites_digest=_items_digest(config, scoring, suites, corpus),
        scoring_digest=scoring,
        scores=scores(measured(items), confidence=config.confidence),
        baselines=suites.baselines | result.baselines,
        contamination=contamination.result(),
        copied_items=result.copied_items,
    ).seal(config, checkpoint, suites, *(given for given in (corpus, earlier, demonstrations) if given is not None))


def chosen(config: EvaluateConfig, suite: str, rows: Sequence[Row]) -> list[Row]:
    """The rows of a suite that are scored, in their own order: with more `items_per_suite`, these and others."""
    return _smallest(rows, config.items_of(suite), ("evaluate", config.seed, suite))


def chosen_documents(config: EvaluateConfig, rows: Sequence[Row]) -> list[Row]:
    """The documents that are scored, in their own order; each source counts as a suite."""
    by_source: dict[str, list[Row]] = {}
    for row in rows:
        by_source.setdefault(row["source"], []).append(row)
    kept = {
        (row["source"], row["id"])
        for source, own in by_source.items()
        for row in _smallest(own, _fewest(config, source), ("evaluate", config.seed, source))
    }
    return [row for row in rows if (row["source"], row["id"]) in kept]


def _fewest(config: EvaluateConfig, source: str) -> int | None:
    caps = [cap for cap in (config.validation_documents_per_source, config.items_of(source)) if cap is not None]
    return min(caps, default=None)


def _smallest(rows: Sequence[Row], most: int | None, key: tuple[str | int, ...]) -> list[Row]:
    """The `most` rows with the smallest hashes of their clusters or ids, in their own order: clusters stay together."""
    if most is None or most >= len(rows):
        return list(rows)
    order = sorted(range(len(rows)), key=lambda n: (hash64(*key, rows[n].get("cluster") or rows[n]["id"]), n))
    return [rows[index] for index in sorted(order[:most])]


def _speaks_as_recorded(checkpoint: Checkpoint) -> None:
    """The tokenizer and template in the folder are the ones the checkpoint says it was trained with."""
    renderer = load_renderer(checkpoint.path)
    golden.check(renderer, checkpoint.path)  # first: it shows which token differs
    found = renderer.protocol.digest
    if found != checkpoint.protocol_digest:
        raise ContractError(
            f"expected the chat protocol {checkpoint.protocol_digest[:12]} in {checkpoint.path}, found {found[:12]}: "
            "its tokenizer or template was changed. Rerun the stage that made it."
        )


def _fits(config: EvaluateConfig, checkpoint: Checkpoint, suites: Suites) -> None:
    """There is room for the longest answer after the longest prompt: a cut prompt would be another question."""
    encoder = Encoder(load_renderer(checkpoint.path))
    for name in sorted(suites.items):
        suite = sealed_suite(suites, name)
        if suite.too_long == "unmeasured":
            continue
        for row in load_rows(suites.file_of(name)):
            for ask in suite.asks(row):
                tokens = encoder.tokens(ask, max_new_tokens=config.max_new_tokens)
                if tokens > checkpoint.max_seq_len:
                    raise ContractError(
                        f"expected prompt and answer within max_seq_len {checkpoint.max_seq_len}, found item "
                        f"{row['id']!r} of {name} with {tokens} tokens, evaluate.max_new_tokens="
                        f"{config.max_new_tokens} among them. Lower evaluate.max_new_tokens, raise "
                        'shards.max_seq_len, or set the suite\'s too_long="unmeasured".'
                    )
    if config.context_tokens >= checkpoint.max_seq_len:
        raise ContractError(
            f"expected evaluate.context_tokens below max_seq_len {checkpoint.max_seq_len}, found "
            f"{config.context_tokens}: no token would be left to score. Lower it."
        )


def _can_be_copied(earlier: EvalReport, checkpoint: Checkpoint, scoring: str) -> None:
    """The earlier report is on this checkpoint and asked in the same way."""
    contracts.report_on(earlier, checkpoint.digest)
    if earlier.scoring_digest != scoring:
        raise ContractError(
            f"expected an earlier report that scored as this one does ({scoring[:12]}), found "
            f"{earlier.scoring_digest[:12] or 'none'}: its suites, texts or settings differ. Evaluate without it."
        )


def _nothing_is_missing(
    config: EvaluateConfig, suites: Suites, corpus: Corpus | None, checkpoint: Checkpoint, items: Sequence[Item]
) -> None:
    """Every item that was to be scored has a record, and nothing else has one: no record is no evidence at all."""
    expected = {
        (name, row.get("slice", ""), row["id"])
        for name in sorted(suites.items)
        for row in chosen(config, name, list(load_rows(suites.file_of(name))))
    }
    documents = chosen_documents(config, [] if corpus is None else list(load_rows(corpus.validation_file)))
    expected |= {(BITS, row["source"], row["id"]) for row in documents}
    expected |= {(item.suite, item.slice, item.id) for item in drift.items(checkpoint.path)}
    odd = sorted(expected ^ {(item.suite, item.slice, item.id) for item in items})
    if odd:
        raise ContractError(
            f"expected a record of each of {len(expected)} items and of no other, found {len(odd)} without or beside "
            f"them, like {'/'.join(filter(None, odd[0]))}. What cannot be graded has a record that says why; mend the "
            "suite's `graded`."
        )


def _contamination(
    config: EvaluateConfig, suites: Suites, trained_on: Corpus | Demonstrations | None
) -> dict[str, Contamination]:
    match trained_on:
        case Corpus():
            documents = list(load_rows(trained_on.train_file))
        case Demonstrations():
            documents = [
                {**row, "text": "\n".join(message["content"] or "" for message in row["messages"])}
                for row in load_rows(trained_on.path / "train.jsonl")
            ]
        case _:
            return {}
    rows = {name: list(load_rows(suites.file_of(name))) for name in sorted(suites.items)}
    return contamination_of(rows, documents, config.contamination)


def _scoring_digest(config: EvaluateConfig, suites: Suites, corpus: Corpus | None) -> str:
    """Equal for two reports exactly when an item that is in both was asked and graded in the same way."""
    asked = {
        "suites": suites.digest,
        "validation": None if corpus is None else corpus.manifest.files[corpus.validation_file.name].sha256,
        "scoring": config.scoring(),
        "revision": config.revision,
    }
    return sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _items_digest(config: EvaluateConfig, scoring: str, suites: Suites, corpus: Corpus | None) -> str:
    """Equal for two reports exactly when the same items were scored in the same way."""
    documents = chosen_documents(config, [] if corpus is None else list(load_rows(corpus.validation_file)))
    taken = {
        "scoring": scoring,
        "items": {suite: min(config.items_of(suite) or items, items) for suite, items in sorted(suites.items.items())},
        "documents": [[row["source"], row["id"]] for row in documents],
    }
    return sha256(orjson.dumps(taken, option=orjson.OPT_SORT_KEYS)).hexdigest()
