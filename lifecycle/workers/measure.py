"""What a diagnosis asks that an evaluation does not: `-m lifecycle.workers.measure <job folder>`. No answer is sealed.

The same few items are asked in several ways, so that a difference is due to the way. What each says about a run is for
the probes in `lifecycle/diagnosis/probes` to judge; here is only the asking.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from lifecycle.chat.render import Renderer, load_renderer
from lifecycle.data.jsonl import Row, load_rows
from lifecycle.data.order import hash64
from lifecycle.diagnosis.measurement import Counted, Loss, Measured, MeasureJob, Variant
from lifecycle.diagnosis.probes.behaviour import kind_demonstrated
from lifecycle.evaluation.encode import Encoder
from lifecycle.evaluation.engine import Engine, Settings
from lifecycle.evaluation.faster import faster, network_of
from lifecycle.evaluation.journal import Alone, Journal
from lifecycle.evaluation.kinds.suite import Ask, Generate, Likelihood, Parity, Reply, Suite
from lifecycle.workers import job as doorway
from lifecycle.workers.evaluate import graded_or_not
from lifecycle.workers.job import Recorder

GENERATED = ("contract", "instructions", "pass_at_k")
"""Kinds of suites whose items are turns to be answered, and graded from the answer alone."""
ONE_SHOT_TOKENS = 16
"""For an answer behind a demonstration: in short rows a question, an example and a long answer do not fit together."""
PROMPT_CHARACTERS, NEXT_CHARACTERS = 160, 60
Turns = Sequence[dict[str, Any]]
Asks = list[tuple[str, Sequence[Ask]]]


def measure(job: MeasureJob, recorder: Recorder) -> Measured:
    """Everything that `MeasureJob` has something for. What cannot be asked is left out, with a reason or as None."""
    torch.set_num_threads(1)
    with ThreadPoolExecutor(1) as pool:
        candidate = Model(job, job.candidate, pool, recorder)
        shown = chosen(job, load_rows(job.demonstrations / "train.jsonl")) if job.demonstrations else []
        held = chosen(job, load_rows(job.demonstrations / "dev.jsonl")) if job.demonstrations else []
        rows = [
            (suite, row)
            for suite in job.suites
            if suite.kind in GENERATED and suite.path is not None
            for row in chosen(job, load_rows(suite.path))
        ]
        scores, faults = in_variants(candidate, rows, shown)
        asked = [[Generate(row["messages"], greedy=False)] for _, row in rows]
        return Measured(
            scores={name: found for name, found in scores.items() if found},
            seeds=[candidate.with_seed(seed).scores(rows, asked) for seed in job.seeds] if rows else [],
            faults=faults,
            served=served(candidate, rows),
            stop_ranks=stop_ranks(candidate, held),
            losses=losses(Model(job, job.sft, pool, recorder), held) if job.sft and held else {},
            continuations=continuations(job, pool, recorder) if job.base and job.validation_file else None,
        )


class Model:
    """A checkpoint that can be asked."""

    def __init__(self, job: MeasureJob, folder: Path, pool: ThreadPoolExecutor, recorder: Recorder) -> None:
        self.job, self.folder, self.pool, self.recorder = job, folder, pool, recorder
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[job.precision]
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False, use_safetensors=True
        )
        self.network = faster(model.to("cuda" if torch.cuda.is_available() else "cpu").eval())
        self.encoder = Encoder(load_renderer(folder))
        self.engine = self._engine(self.encoder, seed=0)

    def _engine(self, encoder: Encoder, seed: int) -> Engine:
        settings = Settings(
            max_new_tokens=self.job.max_new_tokens,
            temperature=self.job.temperature,
            seed=seed,
            context_tokens=0,
            max_seq_len=self.job.max_seq_len,
            batch_items=32,
        )
        name = f"{self.folder.parent.name}-{type(encoder).__name__}-{seed}"
        return Engine(
            self.network, self.folder, encoder, settings, Journal(self.job.scratch_dir / name, Alone()), self.pool
        )

    def with_seed(self, seed: int) -> "Model":
        """The same, drawing other random numbers."""
        other = object.__new__(Model)
        other.__dict__ = {**self.__dict__, "engine": self._engine(self.encoder, seed)}
        return other

    def with_doubled_bos(self) -> "Model":
        """The same, prompted as by a server that puts BOS before a template that has it already."""
        other = object.__new__(Model)
        other.__dict__ = {**self.__dict__, "engine": self._engine(DoubledBos(self.encoder.renderer), 0)}
        return other

    def replies(self, asks: Asks) -> list[list[list[Reply]]]:
        return self.engine.replies(asks, lambda done, total: self.recorder.progress(done, total, "items"))

    def scores(self, rows: Sequence[tuple[Suite, Row]], asks: Sequence[Sequence[Ask]]) -> dict[str, float | None]:
        """By suite/id, the score of each row's first reply; None where it could not be measured."""
        names = [f"{suite.name}/{row['id']}" for suite, row in rows]
        found = self.replies(list(zip(names, asks, strict=True)))
        return {
            name: graded_or_not(suite, row, replies)[0].score
            for name, (suite, row), replies in zip(names, rows, found, strict=True)
        }


class DoubledBos(Encoder):
    """Every prompt behind a second BOS."""

    def ask(self, ask: Ask) -> tuple[list[int], list[int]]:
        prompt, continuation = super().ask(ask)
        return [self.protocol.bos_id, *prompt], continuation


def in_variants(
    model: Model, rows: Sequence[tuple[Suite, Row]], shown: Sequence[Row]
) -> tuple[dict[str, dict[str, float | None]], dict[str, str]]:
    """Greedy scores of the same items asked in several ways, and why a way could not be taken."""
    if not rows:
        return {}, {"as_asked": "no suite whose items are turns to be answered"}
    ways: dict[Variant, Callable[[Row], Turns | None]] = {
        "as_asked": lambda row: row["messages"],
        "one_shot": lambda row: behind_an_example(row, shown),
        "with_record": with_record,
        "no_system": without_system,
    }
    nothing = {
        "one_shot": "the run has no demonstrations to show",
        "with_record": "no item has a record that its question does not hold already",
        "no_system": "no item has a system prompt",
    }
    scores: dict[str, dict[str, float | None]] = {}
    faults: dict[str, str] = {}
    for name, way in ways.items():
        turned = [(suite, row, turns) for suite, row in rows if (turns := way(row)) is not None]
        tokens = ONE_SHOT_TOKENS if name == "one_shot" else None
        asks = [[Generate(turns, samples=0, max_new_tokens=tokens)] for _, _, turns in turned]
        if turned:
            scores[name] = model.scores([(suite, row) for suite, row, _ in turned], asks)
        else:
            faults[name] = nothing[name]
    greedy = [[Generate(row["messages"], samples=0)] for _, row in rows]
    scores["doubled_bos"] = model.with_doubled_bos().scores(rows, greedy)
    return scores, faults


def behind_an_example(row: Row, shown: Sequence[Row]) -> Turns | None:
    """The question behind the shortest demonstration of its own kind; another one, where its kind was not shown."""
    short = sorted(shown, key=lambda each: sum(len(turn["content"] or "") for turn in each["messages"]))
    kind = [each for each in short if row.get("field") is not None and each.get("field") == row["field"]]
    one = next(iter([*kind, *short]), None)
    turns = [] if one is None else [turn for turn in one["messages"] if turn["role"] in ("user", "assistant")]
    return [*turns, *row["messages"]] if turns else None


def with_record(row: Row) -> Turns | None:
    """The record an item is about, put before its question where it does not stand there already."""
    record = row.get("record")
    if not isinstance(record, dict):
        return None
    *before, last = row["messages"]
    said = "".join(turn["content"] or "" for turn in row["messages"])
    if all(str(value) in said for value in record.values()):
        return None
    text = "\n".join(f"{name}: {value}" for name, value in record.items())
    return [*before, {**last, "content": f"{text}\n{last['content']}"}]


def without_system(row: Row) -> Turns | None:
    """The turns without a system prompt; None where there is none."""
    left = [turn for turn in row["messages"] if turn["role"] != "system"]
    return left if 0 < len(left) < len(row["messages"]) else None


def served(model: Model, rows: Sequence[tuple[Suite, Row]]) -> Counted | None:
    """Prompts that transformers, which renders for a server, turns into the ids that were evaluated."""
    turns = [[*row["messages"], {"role": "assistant", "content": "yes"}] for _, row in rows]
    found = [replies[0][0] for replies in model.replies([(str(n), [Parity(t)]) for n, t in enumerate(turns)])]
    rendered = [reply for reply in found if reply.fault is None]
    return Counted(hits=sum(reply.most_likely for reply in rendered), of=len(rendered)) if rendered else None


@torch.inference_mode()
def stop_ranks(model: Model, rows: Sequence[Row]) -> list[int]:
    """Where the stop token stands among all tokens behind each demonstrated answer; 1 is the first choice."""
    renderer = model.encoder.renderer
    ids = [up_to_the_stop(renderer, row) for row in rows]
    fitting = [each for each in ids if each and len(each) <= model.job.max_seq_len]
    ranks = []
    for start in range(0, len(fitting), 32):
        logits_BV, _ = network_of(model.network).read(fitting[start : start + 32])
        stop_B1 = logits_BV[:, renderer.protocol.stop_id, None]
        ranks += ((logits_BV > stop_B1).sum(1) + 1).tolist()
    return [int(rank) for rank in ranks]


def up_to_the_stop(renderer: Renderer, row: Row) -> list[int]:
    """The ids of a conversation before its last supervised stop token; [] without one."""
    rendered = renderer.render(row["messages"])
    stops = [n for n, id in enumerate(rendered.ids) if id == renderer.protocol.stop_id and rendered.assistant_mask[n]]
    return list(rendered.ids[: stops[-1]]) if stops else []


def losses(model: Model, rows: Sequence[Row]) -> dict[str, Loss]:
    """What the demonstrated answers cost, stop token included, by kind."""
    asks: Asks = [
        (str(n), [Likelihood(row["messages"][:-1], row["messages"][-1]["content"], ends=True)])
        for n, row in enumerate(rows)
    ]
    found: dict[str, Loss] = {}
    for row, ((reply,),) in zip(rows, model.replies(asks), strict=True):
        if reply.log_probability is not None:
            kind = kind_demonstrated(row) or str(row.get("source", ""))
            so_far = found.get(kind, Loss(rows=0, tokens=0, nats=0.0))
            found[kind] = Loss(
                rows=so_far.rows + 1, tokens=so_far.tokens + reply.tokens, nats=so_far.nats - reply.log_probability
            )
    return found


def continuations(job: MeasureJob, pool: ThreadPoolExecutor, recorder: Recorder) -> Counted | None:
    """Closed book: pairs of held-out texts whose own next words the base finds likelier than the words exchanged.

    Both are of one source. Beginnings a, b and their continuations A, B count as matched when
    ln p(A|a) + ln p(B|b) > ln p(B|a) + ln p(A|b): how likely either continuation is by itself cancels out.
    """
    assert job.base is not None
    assert job.validation_file is not None
    cuts: dict[str, list[tuple[str, str]]] = {}
    for row in chosen(job, load_rows(job.validation_file)):
        if cut := in_two(row["text"]):
            cuts.setdefault(row["source"], []).append(cut)
    asks: Asks = []
    for source, pairs in cuts.items():
        for n, ((one, own), (other, its)) in enumerate(zip(pairs, [*pairs[1:], *pairs[:1]], strict=True)):
            if own != its:
                matched, exchanged = [(one, own), (other, its)], [(one, its), (other, own)]
                asks.append((f"{source}/{n}", [Likelihood(*each) for each in (*matched, *exchanged)]))
    found = Model(job, job.base, pool, recorder).replies(asks) if asks else []
    sums = [[reply.log_probability for (reply,) in replies] for replies in found]
    known = [[value for value in four if value is not None] for four in sums if None not in four]
    return Counted(hits=sum(a + b > c + d for a, b, c, d in known), of=len(known)) if known else None


def in_two(text: str) -> tuple[str, str] | None:
    """The beginning of a text and its next words; a text without blanks is cut in the middle."""
    middle = min(PROMPT_CHARACTERS, len(text) // 2)
    at = text.rfind(" ", 0, middle)
    at = at if at > 0 else middle
    return (text[:at], text[at : at + NEXT_CHARACTERS]) if at > 0 else None


def chosen(job: MeasureJob, rows: Any) -> list[Row]:
    """`items` rows in an order that is drawn by their content's name: the same ones every time."""
    return sorted(rows, key=lambda row: hash64("measure", str(row.get("source", "")), str(row["id"])))[: job.items]


def main() -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    doorway.run(MeasureJob, measure)


if __name__ == "__main__":
    main()
