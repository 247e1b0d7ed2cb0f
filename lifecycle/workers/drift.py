"""Measures how far a model in training has moved: it answers, its reference answers, and both read what was said."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch

from lifecycle.chat.render import Renderer
from lifecycle.data.conversations import fault_of_demonstration
from lifecycle.data.encoding import encode_documents
from lifecycle.data.jsonl import Row, fault_of_text, read_rows, write_rows
from lifecycle.errors import ConfigError
from lifecycle.evaluation import next_token, statistics
from lifecycle.evaluation.decoding import Decoding, Draw, Prompt, decode
from lifecycle.evaluation.faster import faster
from lifecycle.evaluation.grading import grade
from lifecycle.evaluation.judge import RewardJudge
from lifecycle.evaluation.kinds.drift import RECORDS, answer_record, pair_record
from lifecycle.stages.online import OnlineJob
from lifecycle.stages.preference import PreferenceJob
from lifecycle.training import drift, pairs
from lifecycle.training.agreement import on_first
from lifecycle.training.divergence import by_answer, entropy, token_kl
from lifecycle.training.drift import DriftPolicy, Fault
from lifecycle.training.pairs import Asked
from lifecycle.workers import posttrain
from lifecycle.workers.contract import Asked as Question
from lifecycle.workers.contract import asked_of, longest_answer, plain_copy
from lifecycle.workers.job import Recorder

AT_ONCE = 32
SEED = 0


class Apart(NamedTuple):
    """Two models over the same answers: nats and tokens of each answer, and the first model's entropy a token."""

    nats: list[float]
    tokens: list[int]
    entropy: float

    def each(self) -> Iterator[tuple[float, int]]:
        """Nats and tokens of each answer."""
        return zip(self.nats, self.tokens, strict=True)


class DriftWatch:
    """The measurements of one training. Rank 0 makes them, so that all ranks judge alike."""

    def __init__(
        self,
        job: PreferenceJob | OnlineJob,
        policy: DriftPolicy,
        renderer: Renderer,
        held: Sequence[Asked],
        recorder: Recorder,
    ) -> None:
        self.job, self.policy, self.renderer, self.recorder = job, policy, renderer, recorder
        self.pairs = len(held)
        room = job.max_seq_len - policy.max_new_tokens
        distinct = dict.fromkeys(tuple(one.prompt_ids) for one in held if len(one.prompt_ids) <= room)
        if not distinct:
            raise ConfigError(
                f"expected held-out prompts with room for drift.max_new_tokens={policy.max_new_tokens} in max_seq_len "
                f"{job.max_seq_len}, found none. Lower it."
            )
        self.prompts = [Prompt(f"drift-{n}", list(ids)) for n, ids in enumerate(list(distinct)[: policy.prompts])]
        self.questions = _questions(policy)
        texts = _texts(policy)
        self.bytes = sum(len(text.encode()) for text in texts)
        bos_id = renderer.protocol.bos_id
        self.documents = list(encode_documents(renderer.tokenizer, texts, bos_id=bos_id)) if texts else []
        self.judges: list[RewardJudge] = []
        self.said: list[Draw] = []
        self.known: list[bool] = []
        self.last: list[Row] = []
        self.measured_at: int | None = None

    def measure(self, model: Any, step: int, margins: Sequence[float], moved: Sequence[float]) -> dict[str, float]:
        """Everything the policy names, after `step`; `margins` and `moved` are of held-out pairs, in their order."""
        found = on_first(lambda: self._measure(model, step, margins, moved))
        self.measured_at = step
        self.recorder.metrics(step, **drift.as_metrics(found))
        return found

    def broken(self, first: drift.Measured, now: drift.Measured) -> Fault | None:
        """The gravest rule that these numbers break."""
        found = drift.faults(self.policy, first, now, pairs=self.pairs)
        return next(found, None)

    def write(self, folder: Path) -> None:
        """The last measurement's records, one an answer and one a pair: what the evaluation takes over as evidence."""
        write_rows(folder / RECORDS, self.last)

    @torch.no_grad()
    def _measure(self, model: Any, step: int, margins: Sequence[float], moved: Sequence[float]) -> dict[str, float]:
        policy = plain_copy(model)
        device = policy.device
        reference = posttrain.load_model(self.job.sft, self.job.config.attention).to(device).eval()
        reference.config.use_cache = True
        if not self.said:  # once: it does not change
            self.said, self.known = self._sample(reference), self._right(reference)
        said = self._sample(policy)
        sampled = self._apart(policy, reference, said)
        forward = self._apart(reference, policy, self.said)
        answers, before = [draw.ids for draw in said], [draw.ids for draw in self.said]
        self.last = [
            *(answer_record(f"answer-{n}", kl=kl, tokens=tokens) for n, (kl, tokens) in enumerate(sampled.each())),
            *(
                pair_record(f"pair-{n}", margin=m, change=c)
                for n, (m, c) in enumerate(zip(margins, moved, strict=True))
            ),
        ]
        found = {
            "kl": fmean(sampled.nats),
            "kl_token": sum(sampled.nats) / sum(sampled.tokens),
            "kl_forward": fmean(forward.nats),
            "kl_forward_token": sum(forward.nats) / sum(forward.tokens),
            "entropy": sampled.entropy,
            "reference_entropy": forward.entropy,
            "length_ratio": sum(sampled.tokens) / sum(forward.tokens),
            "distinct_1": drift.distinct(answers, 1),
            "distinct_2": drift.distinct(answers, 2),
            "reference_distinct_2": drift.distinct(before, 2),
            "chosen_change": fmean(moved),
            **drift.of_margins(margins),
            **self._guards(policy, step),
            **self._rewards(said, device),
        }
        return {name: round(float(value), 6) for name, value in found.items()}

    def _sample(self, model: Any) -> list[Draw]:
        return self._decode(model, self.prompts, self.policy.max_new_tokens, greedy=False)

    def _decode(self, model: Any, prompts: Sequence[Prompt], most: int, *, greedy: bool) -> list[Draw]:
        network = faster(model)
        decoding = Decoding(
            stop_id=self.renderer.protocol.stop_id,
            max_new_tokens=most,
            temperature=1.0,
            seed=SEED,
            greedy=greedy,
            samples=0 if greedy else 1,
        )
        parts = [prompts[start : start + AT_ONCE] for start in range(0, len(prompts), AT_ONCE)]
        return [draw for part in parts for draw in decode(network, part, decoding)]

    def _apart(self, one: Any, other: Any, said: Sequence[Draw]) -> Apart:
        """KL(one || other) at every token of answers that `one` gave."""
        stop = [self.renderer.protocol.stop_id]
        asked = [Asked(draw.prompt.ids, (draw.ids + stop * draw.stopped,)) for draw in said if draw.tokens]
        nats, tokens, sure = list[float](), list[int](), 0.0
        for start in range(0, len(asked), AT_ONCE):
            inputs = pairs.padded(asked[start : start + AT_ONCE], pad_id=0)
            logits_NV, other_NV = (_logits(model, inputs) for model in (one, other))
            answer_N, (answers, _) = inputs["answer_N"].to(logits_NV.device), inputs["shape"]
            sums, counts = by_answer(token_kl(logits_NV, other_NV), answer_N, answers)
            nats, tokens = nats + sums.tolist(), tokens + counts.tolist()
            sure += float(entropy(logits_NV).sum())
        return Apart(nats, tokens, sure / max(1, sum(tokens)))

    def _guards(self, model: Any, step: int) -> dict[str, float]:
        """The contract, asked greedily, and bits per byte: what was not to be forgotten."""
        found = {}
        if self.questions:
            right = self._right(model)
            found["contract"] = fmean(right)
            found["contract_fall_shown"] = shown_fall(self.known, right, tail=self.policy.tail_at(step))
        if self.documents:
            batches = next_token.batches_of(
                model, self.documents, max_seq_len=self.job.max_seq_len, context_tokens=0, batch=AT_ONCE
            )
            nats = sum(sum(next_token.log_probabilities(model, batch)) for batch in batches)
            found["bits_per_byte"] = -nats / math.log(2) / self.bytes
        return found

    def _right(self, model: Any) -> list[bool]:
        """Which guard conversations the model answers right, greedily."""
        if not self.questions:
            return []
        most = longest_answer(self.questions, self.renderer)
        prompts = [Prompt(f"guard-{n}", self._prompt_ids(one)) for n, one in enumerate(self.questions)]
        return list(map(self._is_right, self.questions, self._decode(model, prompts, most, greedy=True)))

    def _prompt_ids(self, one: Question) -> list[int]:
        return self.renderer.render(one.prompt, generation_prompt=True).ids

    def _is_right(self, one: Question, draw: Draw) -> bool:
        text = self.renderer.tokenizer.decode(draw.ids, skip_special_tokens=False)
        return draw.stopped and grade(text, one.field, one.value).correct

    def _rewards(self, said: Sequence[Draw], device: torch.device) -> dict[str, float]:
        """What reward models give the policy's answers: the one learned from, and one that nobody learned from."""
        if self.policy.rewards and not self.judges:
            self.judges = [RewardJudge(folder, device) for folder in self.policy.rewards]
        found: dict[str, float] = {}
        for name, judge in zip(("reward", "second_reward"), self.judges, strict=False):
            if judge.renderer.protocol.digest != self.renderer.protocol.digest:
                raise ConfigError(
                    "expected drift.rewards with the model's own chat protocol, found another. Leave it out."
                )
            rows = [draw.prompt.ids + draw.ids + [self.renderer.protocol.stop_id] for draw in said]
            given = [value for value in judge.rewards(rows) if value is not None]
            if given:
                found[name] = fmean(given)
                found[f"{name}_error"] = stdev(given) / math.sqrt(len(given)) if len(given) > 1 else 0.0
        return found


def shown_fall(before: Sequence[bool], now: Sequence[bool], *, tail: float) -> float:
    """The share of conversations by which answers got worse for certain: the lower end of Tango's paired interval.

    The same conversations are asked twice, so that only those count that changed sides: one lost for one gained is no
    fall, and chance moves 9 of 96 more easily than the share right before them would say.
    """
    lost, gained = (sum(a and not b for a, b in zip(*some, strict=True)) for some in ((before, now), (now, before)))
    return statistics.paired(lost, gained, len(now), tail=tail).low


def _questions(policy: DriftPolicy) -> list[Question]:
    if policy.guard is None:
        return []
    rows, _ = read_rows(policy.guard, fault_of_demonstration, max_bad_row_share=0)
    return [asked_of(row) for row in rows[: policy.guard_rows]]


def _texts(policy: DriftPolicy) -> list[str]:
    if policy.documents is None:
        return []
    rows, _ = read_rows(policy.documents, lambda row: fault_of_text(row.get("text")), max_bad_row_share=0)
    return [row["text"] for row in rows]


def _logits(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    ids_RT = inputs["input_ids"].to(model.device)
    hidden_RTD = model.base_model(input_ids=ids_RT, use_cache=False).last_hidden_state
    where = inputs["row_N"].to(model.device), inputs["place_N"].to(model.device)
    logits_NV: torch.Tensor = model.get_output_embeddings()(hidden_RTD[where])
    return logits_NV
