"""Asks the model what suites want to know: sorted by length, in batches, shared out to threads and ranks, resumable."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lifecycle.evaluation import likelihood, next_token
from lifecycle.evaluation.decoding import Decoding, Prompt, draws_of
from lifecycle.evaluation.encode import Encoder, digest
from lifecycle.evaluation.generation import DIGITS, OUT_OF_MEMORY, Generation
from lifecycle.evaluation.journal import Journal
from lifecycle.evaluation.judge import RewardJudge
from lifecycle.evaluation.kinds.suite import Ask, Generate, Likelihood, Parity, Reply, Reward
from lifecycle.evaluation.likelihood import NOT_FINITE, Question
from lifecycle.evaluation.parity import TemplateParity
from lifecycle.evaluation.prefix_tree import MIN_SHARED
from lifecycle.evaluation.prefixes import in_batches

DOES_NOT_FIT, NO_CONTINUATION = "does_not_fit", "no_continuation"

Done = Callable[[int, int], None]
Work = Callable[[Sequence[Any]], list[Any]]


@dataclass(frozen=True)
class Settings:
    """How answers are drawn where an ask does not say, and how much is done at once."""

    max_new_tokens: int
    temperature: float
    seed: int
    context_tokens: int
    max_seq_len: int
    batch_items: int
    guesses: bool = True
    """Several tokens of an answer are checked at a time where that is faster; no answer changes."""


class Asked(NamedTuple):
    """An ask as ids, the item it is about, and its number among the item's asks."""

    item: str
    number: int
    ask: Ask
    prompt: list[int]
    continuation: list[int]

    @property
    def name(self) -> str:
        """What names its random numbers. The first ask has no number: it was once the only one."""
        return f"{self.item}#{self.number}" if self.number else self.item


class Engine:
    """One model, and everything that can be asked of it."""

    def __init__(
        self, model: Any, folder: Path, encoder: Encoder, settings: Settings, journal: Journal, pool: Executor
    ) -> None:
        self.model, self.encoder, self.settings = model, encoder, settings
        self.journal, self.pool = journal, pool
        self._parity = TemplateParity(folder, encoder.renderer)
        self._judges: dict[Path, RewardJudge] = {}
        self.seconds: dict[str, float] = {}
        """Wall seconds by item (by number of the document) of the last call: its share of its batches."""

    def replies(self, items: Sequence[tuple[str, Sequence[Ask]]], done: Done) -> list[list[list[Reply]]]:
        """For each item, for each of its asks: the replies. An item's name is unique among these."""
        self.seconds = {}
        asked = [
            Asked(item, number, ask, *self.encoder.ask(ask)) for item, asks in items for number, ask in enumerate(asks)
        ]
        found: dict[tuple[str, int], list[Reply]] = {}
        fitting = [one for one in asked if not self._refused(one, found)]
        generate = [one for one in fitting if isinstance(one.ask, Generate)]
        for settings in dict.fromkeys(self._decoding(one.ask) for one in generate):
            self._generate([one for one in generate if self._decoding(one.ask) == settings], settings, found, done)
        self._score([one for one in fitting if isinstance(one.ask, Likelihood)], found, done)
        self._judge([one for one in fitting if isinstance(one.ask, Reward)], found, done)
        for one in fitting:
            if isinstance(one.ask, Parity):
                found[one.item, one.number] = [self._parity.reply(one.ask)]
        return [[found[item, number] for number in range(len(asks))] for item, asks in items]

    def documents(self, documents: Sequence[Sequence[int]], done: Done) -> list[float | None]:
        """ln p of each document behind its BOS; None where a token's is no finite number."""
        batches = next_token.batches_of(
            self.model,
            documents,
            max_seq_len=self.settings.max_seq_len,
            context_tokens=self.settings.context_tokens,
            batch=self.settings.batch_items,
        )
        windows = [window for batch in batches for window in batch]
        values = self._run(batches, "document", lambda some: next_token.log_probabilities(self.model, some), done)
        self.seconds, sums = {}, [0.0] * len(documents)
        for place, (window, value) in enumerate(zip(windows, values, strict=True)):
            sums[window.document] += math.nan if value is None else value
            self._took(str(window.document), place)
        return [round(value, DIGITS) if math.isfinite(value) else None for value in sums]

    def _refused(self, one: Asked, found: dict[tuple[str, int], list[Reply]]) -> bool:
        """Enter a reply with a fault where the model cannot be asked: cutting a prompt would be another question."""
        ask, ids = one.ask, [*one.prompt, *one.continuation]
        match ask:
            case Generate():
                decoding = self._decoding(ask)
                if len(ids) + decoding.max_new_tokens <= self.settings.max_seq_len:
                    return False
                draws = draws_of(Prompt(one.name, ids), decoding)
                replies = [Reply(d.mode, digest(ids), d.sample, fault=DOES_NOT_FIT) for d in draws]
            case Likelihood():
                fault = DOES_NOT_FIT if len(ids) > self.settings.max_seq_len else NO_CONTINUATION
                if fault == NO_CONTINUATION and one.continuation:
                    return False
                replies = [Reply("likelihood", digest(ids), text=ask.continuation, fault=fault)]
            case _:
                return False
        found[one.item, one.number] = replies
        return True

    def _decoding(self, ask: Ask) -> Decoding:
        assert isinstance(ask, Generate)
        protocol, settings = self.encoder.protocol, self.settings
        return Decoding(
            stop_id=protocol.stop_id,
            max_new_tokens=ask.max_new_tokens or settings.max_new_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
            greedy=ask.greedy,
            samples=ask.samples,
            stop=ask.stop,
        )

    def _generate(
        self, asked: Sequence[Asked], decoding: Decoding, found: dict[tuple[str, int], list[Reply]], done: Done
    ) -> None:
        prompts = [Prompt(one.name, one.prompt) for one in asked]
        size = max(1, 2 * self.settings.batch_items // (decoding.greedy + decoding.samples))
        generation = Generation(self.model, self.encoder.tokenizer, decoding, prompts, guesses=self.settings.guesses)

        def draw(parts: Sequence[Sequence[int]], before: int) -> list[tuple[int, Any]]:
            batches = [[prompts[n] for n in part] for part in parts]
            results = self._run(
                batches, asdict(decoding), generation.results, lambda some, _: done(before + some, len(prompts))
            )
            drawn = list(zip([n for part in parts for n in part], results, strict=True))
            for place, (n, result) in enumerate(drawn):
                found[asked[n].item, asked[n].number] = generation.replies(n, result)
                self._took(asked[n].item, place)
            return drawn

        pilots = draw(generation.pilots(), 0)
        generation.learn(pilots)
        draw(generation.others(size), len(pilots))

    def _score(self, asked: Sequence[Asked], found: dict[tuple[str, int], list[Reply]], done: Done) -> None:
        """Continuations by prompt; those of one prompt are scored together."""
        by_prompt: dict[tuple[int, ...], list[list[tuple[Asked, list[int]]]]] = {}
        for one in asked:
            parts_of = by_prompt.setdefault(tuple(one.prompt), [])
            # A prompt of BOS alone is no work to share, and one of all texts would be a batch without a limit.
            if not parts_of or len(one.prompt) < MIN_SHARED or len(parts_of[-1]) >= self.settings.batch_items:
                parts_of.append([])
            parts_of[-1].append((one, one.continuation))
        for several in (False, True):
            groups = [(p, g) for p, parts_of in by_prompt.items() for g in parts_of if (len(g) > 1) == several]
            whole = [(*prompt, *max((ids for _, ids in group), key=len)) for prompt, group in groups]
            parts = in_batches(whole, self.settings.batch_items)
            questions = [
                [Question(list(groups[n][0]), [ids for _, ids in groups[n][1]]) for n in part] for part in parts
            ]
            groups = [groups[n] for part in parts for n in part]
            batches = [batch for part in questions for batch in self._question_batches(part)]
            values = self._run(batches, "likelihood", self._probabilities, done)
            for place, ((prompt, group), results) in enumerate(zip(groups, values, strict=True)):
                for (one, ids), result in zip(group, results or [None] * len(group), strict=True):
                    found[one.item, one.number] = [_scored(one.ask, [*prompt, *ids], len(ids), result)]
                    self._took(one.item, place, share=len(group))

    def _question_batches(self, questions: Sequence[Question]) -> list[list[Question]]:
        """Batches of at most `batch_items` prompts whose logits fit in memory."""
        batches: list[list[Question]] = []
        rows, width = 0, 0
        for question in questions:
            more, longest = len(question.continuations), max(map(len, question.continuations))
            width = max(width, longest)
            logits = (rows + more) * width * self.model.config.vocab_size
            if not batches or len(batches[-1]) >= self.settings.batch_items or logits > next_token.MAX_LOGITS:
                batches.append([])
                rows, width = 0, longest
            batches[-1].append(question)
            rows += more
        return batches

    def _probabilities(self, questions: Sequence[Question]) -> list[Any]:
        found = likelihood.log_probabilities(self.model, questions)
        return [[vars(one) for one in several] for several in found]  # asdict would copy every token

    def _judge(self, asked: Sequence[Asked], found: dict[tuple[str, int], list[Reply]], done: Done) -> None:
        """Rewards of conversations; one that is too long for the judge is not cut, it has none."""
        for folder in dict.fromkeys(one.ask.judge for one in asked if isinstance(one.ask, Reward)):
            judge = self._judges.get(folder) or RewardJudge(folder, self.model.device)
            self._judges[folder] = judge
            mine = [one for one in asked if isinstance(one.ask, Reward) and one.ask.judge == folder]
            rows = [judge.ids(one.ask.messages) for one in mine if isinstance(one.ask, Reward)]
            fits = [n for n, row in enumerate(rows) if len(row) <= judge.model.config.max_position_embeddings]
            order = sorted(fits, key=lambda n: -len(rows[n]))
            size = self.settings.batch_items
            batches = [[rows[n] for n in order[start : start + size]] for start in range(0, len(order), size)]
            rewards = dict(zip(order, self._run(batches, ["reward", str(folder)], judge.rewards, done), strict=True))
            for n, one in enumerate(mine):
                fault = DOES_NOT_FIT if n not in rewards else NOT_FINITE if rewards[n] is None else None
                reply = Reply("likelihood", digest(rows[n]), tokens=len(rows[n]), reward=rewards.get(n), fault=fault)
                found[one.item, one.number] = [reply]

    def _run(self, batches: Sequence[Sequence[Any]], settings: Any, work: Work, done: Done) -> list[Any]:
        total = sum(map(len, batches))
        results = self.journal.run(
            batches,
            lambda batch: _in_memory(work, batch),
            settings=settings,
            pool=self.pool,
            done=lambda finished: done(finished, total),
        )
        self._shares = self.journal.seconds_of(batches, settings=settings)
        return results

    def _took(self, item: str, place: int, share: int = 1) -> None:
        self.seconds[item] = self.seconds.get(item, 0.0) + self._shares[place] / share


def _in_memory(work: Work, batch: Sequence[Any]) -> list[Any]:
    """The results of a batch; one that does not fit in the device's memory is halved, down to a single element.

    An element that does not fit alone has the result None.
    """
    try:
        return work(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            return [None]
    # Outside the handler: its traceback would hold on to the tensors that filled the memory.
    middle = len(batch) // 2
    return _in_memory(work, batch[:middle]) + _in_memory(work, batch[middle:])


def _scored(ask: Ask, ids: Sequence[int], tokens: int, result: dict[str, Any] | None) -> Reply:
    assert isinstance(ask, Likelihood)
    if result is None or result["log_probability"] is None or not math.isfinite(result["log_probability"]):
        fault = OUT_OF_MEMORY if result is None else NOT_FINITE
        return Reply("likelihood", digest(ids), text=ask.continuation, tokens=tokens, fault=fault)
    first = result["first_choice"]
    return Reply(
        "likelihood",
        digest(ids),
        text=ask.continuation,
        log_probability=round(result["log_probability"], DIGITS),
        tokens=tokens,
        stopped=ask.ends and first[-1],
        most_likely=all(first),
    )
