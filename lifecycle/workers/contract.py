"""How many held-out conversations a model in training answers right, decoded and graded by the evaluation's code."""

import copy
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import peft
import torch
import torch.distributed as dist

from lifecycle.chat.render import Renderer
from lifecycle.data.jsonl import Row, load_rows
from lifecycle.errors import ContractError
from lifecycle.evaluation.encode import Encoder
from lifecycle.evaluation.engine import Engine, Settings
from lifecycle.evaluation.faster import faster
from lifecycle.evaluation.grading import grade
from lifecycle.evaluation.journal import Journal
from lifecycle.evaluation.kinds.suite import Generate
from lifecycle.stages.sft import SftJob
from lifecycle.workers.job import rank, world_size

BATCH_ITEMS = 32
ROOM = 2  # times the longest right answer: one that is still going then is not it


class Asked(NamedTuple):
    """A held-out conversation: what is asked, and the one right answer, {field: value}."""

    prompt: list[dict[str, str]]
    field: str
    value: Any


class TrainingPeers:
    """All ranks of the training, as the evaluation's journal shares work out among them."""

    def __init__(self) -> None:
        self.rank, self.ranks = rank(), world_size()

    def wait(self) -> None:
        if self.ranks > 1:
            dist.barrier()


class ContractScore:
    """Asks the held-out rows of a job."""

    def __init__(self, job: SftJob, renderer: Renderer, rows: int | None) -> None:
        self.job, self.renderer = job, renderer
        self.asked = [asked_of(row) for row in load_rows(job.dev_file)][:rows]
        self.settings = Settings(
            max_new_tokens=longest_answer(self.asked, renderer),
            temperature=1.0,
            seed=0,
            context_tokens=job.max_seq_len,
            max_seq_len=job.max_seq_len,
            batch_items=BATCH_ITEMS,
        )

    @torch.no_grad()
    def share_right(self, model: Any, step: int) -> float:
        """The share of rows whose greedy answer is right by `evaluation.grading`; one that does not fit is not."""
        journal = Journal(self.job.scratch_dir / "judged" / f"step-{step:08d}", TrainingPeers())
        asks = [(str(n), [Generate(one.prompt, samples=0)]) for n, one in enumerate(self.asked)]
        with ThreadPoolExecutor(1) as pool:
            network, encoder = faster(plain_copy(model)), Encoder(self.renderer)
            engine = Engine(network, self.job.base, encoder, self.settings, journal, pool)
            replies = engine.replies(asks, lambda done, total: None)
        right = [
            reply.unmeasured is None and grade(reply.text, one.field, one.value).correct
            for one, ((reply,),) in zip(self.asked, replies, strict=True)
        ]
        return sum(right) / len(right)


def plain_copy(model: Any) -> Any:
    """A copy of a model in training as the evaluation takes one: adapters merged, in fp32, with its own forward."""
    plain = copy.deepcopy(model)
    plain = plain.merge_and_unload() if isinstance(plain, peft.PeftModel) else plain
    plain.__dict__.pop("forward", None)
    plain.config.use_cache = True
    return plain.eval()


def longest_answer(asked: Sequence[Asked], renderer: Renderer) -> int:
    """Tokens that an answer may take: some more than any right one."""
    texts = [json.dumps({one.field: one.value}, ensure_ascii=False) for one in asked]
    return ROOM * (max(len(renderer.tokenizer.encode(text, add_special_tokens=False).ids) for text in texts) + 1)


def asked_of(row: Row) -> Asked:
    """A row as it is asked. What has no one right answer is refused: a score over some rows would be another score."""
    *prompt, last = row["messages"]
    try:
        ((field, value),) = json.loads(last["content"]).items()
    except (ValueError, AttributeError, TypeError):
        raise ContractError(
            f"row {row['id']}: early_stopping.metric=contract expected a last answer that is one JSON object with one "
            f"field, found {last['content'][:80]!r}. Stop by metric=loss, or hold such rows out."
        ) from None
    return Asked(prompt, str(field), value)
