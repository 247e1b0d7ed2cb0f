"""How often the model's answer is preferred to a given one, by a stated judge that is asked in both orders.

Judges that read two answers at once favour a place (Zheng et al. 2023, https://arxiv.org/abs/2306.05685, section 3.3).
Both judges here score each answer alone, so the orders must agree: `consistent` says on how many items they do.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.data.conversations import fault_of_messages
from lifecycle.data.jsonl import Row, fault_of_text
from lifecycle.errors import InputError
from lifecycle.evaluation.checks import fault_of_checks, parse_checks, verdicts
from lifecycle.evaluation.items import Item
from lifecycle.evaluation.kinds.suite import Ask, Generate, Measure, Reply, Reward, Suite, collected
from lifecycle.evaluation.matching import Unchecked

JUDGE_SUFFIXES = {".json", ".safetensors", ".jinja"}
UNDECIDED = "judge_undecided"

Marks = tuple[float, ...]


class Verifier(BaseModel):
    """The answer that keeps more of the row's checks wins; equal ones tie, or the shorter wins."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["verifier"] = "verifier"
    shorter_breaks_ties: bool = False

    def marks(self, row: Row, answer: str) -> Marks:
        """What is compared, the weightiest first."""
        kept = sum(verdicts(parse_checks(row["checks"]), answer))
        return (kept, -len(answer.strip())) if self.shorter_breaks_ties else (kept,)


class RewardModel(BaseModel):
    """The answer with the higher reward wins. A sequence classifier with one output that speaks our chat protocol."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    kind: Literal["reward_model"] = "reward_model"
    path: Path = Field(description="A Hugging Face folder: safetensors, tokenizer and template, no code.")


Judge = Annotated[Verifier | RewardModel, Field(discriminator="kind")]


class PairwiseSuite(Suite):
    """Rows with id, messages (the last one the user's), reference (the answer to beat), and checks for a verifier."""

    kind: Literal["pairwise"] = "pairwise"
    judge: Judge = Verifier()

    def fault_of(self, row: Row) -> str | None:
        if fault := fault_of_messages(row.get("messages"), last_role="user") or fault_of_text(row.get("reference")):
            return fault
        return fault_of_checks(row.get("checks")) if isinstance(self.judge, Verifier) else None

    def stored(self, row: Row) -> Row:
        names = ("id", "messages", "reference", *(["checks"] if isinstance(self.judge, Verifier) else []))
        return {name: row[name] for name in names} | self.labels(row)

    def sealed_into(self, folder: Path) -> dict[str, Any]:
        """The reward model is sealed with the rows: another judge is another suite."""
        settings = super().sealed_into(folder)
        if isinstance(self.judge, RewardModel):
            settings["judge"]["path"] = f"{self.name}.judge"
            _copy_judge(self.judge.path, folder / f"{self.name}.judge")
        return settings

    def opened(self, folder: Path) -> "Suite":
        if not isinstance(self.judge, RewardModel):
            return self
        return self.model_copy(update={"judge": RewardModel(path=folder / self.judge.path)})

    def asks(self, row: Row) -> list[Ask]:
        answer: list[Ask] = [Generate(row["messages"])]
        if isinstance(self.judge, RewardModel):
            answer.append(Reward(self.judge.path, _with_answer(row, row["reference"])))
        return answer

    def asks_then(self, row: Row, replies: Sequence[Sequence[Reply]]) -> list[Ask]:
        if not isinstance(self.judge, RewardModel):
            return []
        path = self.judge.path
        return [Reward(path, _with_answer(row, reply.text)) for reply in replies[0] if not reply.unmeasured]

    def graded(self, row: Row, replies: Sequence[Sequence[Reply]]) -> list[Item]:
        judged = iter(replies[2:])
        return [
            self._graded(row, reply, replies[1:2], () if reply.unmeasured else next(judged, ())) for reply in replies[0]
        ]

    def _graded(self, row: Row, reply: Reply, reference: Sequence[Sequence[Reply]], judged: Sequence[Reply]) -> Item:
        grades: dict[str, float | None] = {
            "win": None,
            "consistent": None,
            "stopped": None if reply.fault else float(reply.stopped),
        }
        if reply.unmeasured:
            return self.item(row, reply, score="win", grades=grades)
        try:
            mine, theirs = self._marks(row, reply, reference, judged)
        except Unchecked as why:
            return self.item(row, reply, score="win", grades=grades, unmeasured=str(why))
        first, second = preference(mine, theirs), 1 - preference(theirs, mine)
        grades |= {"win": (first + second) / 2, "consistent": float(first == second)}
        return self.item(row, reply, score="win", grades=grades)

    def _marks(
        self, row: Row, reply: Reply, reference: Sequence[Sequence[Reply]], judged: Sequence[Reply]
    ) -> tuple[Marks, Marks]:
        if isinstance(self.judge, Verifier):
            return self.judge.marks(row, reply.text), self.judge.marks(row, row["reference"])
        rewards = [one.reward for one in (*judged, *reference[0])]
        if len(rewards) != 2 or rewards[0] is None or rewards[1] is None:
            raise Unchecked(UNDECIDED)
        return (rewards[0],), (rewards[1],)

    @classmethod
    def measures(cls, items: Sequence[Item]) -> dict[str, Measure]:
        greedy, sampled = ([item for item in items if item.mode == mode] for mode in ("greedy", "sampled"))
        return {
            "greedy_win_rate": collected("mean", greedy, "win"),
            "sampled_win_rate": collected("mean", sampled, "win"),
            "judge_consistent": collected("share", greedy, "consistent"),
        }


def preference(first: Marks, second: Marks) -> float:
    """1 where the first answer wins, 0.5 for a tie."""
    return 0.5 if first == second else float(first > second)


def _with_answer(row: Row, answer: str) -> list[Any]:
    return [*row["messages"], {"role": "assistant", "content": answer}]


def _copy_judge(source: Path, target: Path) -> None:
    """Copy a reward model's folder. A file that could carry code is refused."""
    if not (source / "config.json").is_file():
        raise InputError(f"expected a reward model's folder at {source}, found no config.json. Check judge.path.")
    target.mkdir()
    for file in sorted(source.iterdir()):
        if file.name == "manifest.json" or file.name == "log":
            continue
        if file.is_symlink() or not file.is_file() or file.suffix not in JUDGE_SUFFIXES:
            raise InputError(
                f"expected only {', '.join(sorted(JUDGE_SUFFIXES))} files in {source}, found {file.name!r}. Save the "
                "reward model as safetensors, and nothing else."
            )
        shutil.copyfile(file, target / file.name)
    config = json.loads((target / "config.json").read_bytes())
    if "auto_map" in config:
        raise InputError(f"expected a reward model without code of its own, found 'auto_map' in {source}. Remove it.")
