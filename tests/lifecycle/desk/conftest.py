"""A desk of a few items, its site, and a person who votes on it by hand."""

import re
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

from lifecycle.desk.app import application
from lifecycle.desk.folder import Desk, DeskConfig, make_desk
from lifecycle.desk.items import read_answers

ORIGIN = "http://127.0.0.1:8790"


def answer_rows(items: int) -> list[dict[str, Any]]:
    """Questions with an answer of each of two systems; that of `good` is the longer one."""
    return [
        {
            "prompt": [{"role": "user", "content": f"What is {n} + {n}?"}],
            "answers": [
                {"content": f"It is **{2 * n}**, because {n} is added twice.", "system": "good", "seed": n},
                {"content": f"{2 * n + 1}.", "system": "bad", "seed": n},
            ],
        }
        for n in range(items)
    ]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Desk]:
    """A new desk on these rows, or on so many made-up ones."""

    def make(items: int | Sequence[dict[str, Any]] = 12, *, annotators: int = 2, **config: Any) -> Desk:
        rows = answer_rows(items) if isinstance(items, int) else items
        path = write(tmp_path / "answers.jsonl", rows)
        gold = config.pop("gold", None)
        gold_path = None if gold is None else write(tmp_path / "gold.jsonl", gold)
        made_of = {"answers": "made up"}
        desk = make_desk(
            tmp_path / "desk",
            DeskConfig(**config),
            made_of,
            lambda: (read_answers([path]), Counter()),
            gold=gold_path,
        )
        desk.people.at_least(annotators)
        return desk

    return make


class Annotator:
    """Somebody at the page, with what a browser sends for them."""

    def __init__(self, desk: Desk, name: str = "annotator-1") -> None:
        self.desk, self.name = desk, name
        self.client = TestClient(
            application(desk, origins=[ORIGIN]), base_url=ORIGIN, headers={"origin": ORIGIN}, follow_redirects=False
        )
        token = next(person.token for person in desk.people.all() if person.name == name)
        assert self.client.post("/enter", data={"token": token}).status_code == 303

    def look(self, path: str = "/") -> str:
        """The page."""
        return self.client.get(path).text

    def fields(self, form: str = "vote") -> dict[str, str]:
        """What a form of the page sends."""
        part = re.search(rf'<form[^>]*id="{form}".*?</form>', self.look(), re.DOTALL)
        assert part is not None, "there is nothing to vote on"
        return dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', part[0]))

    def vote(self, choice: str, *tags: str, **fields: str) -> Any:
        """Vote on what the page shows."""
        ticked = {f"tag {tag}": "1" for tag in tags}
        return self.client.post("/vote", data={**self.fields(), "choice": choice, **ticked, **fields})

    def prefer(self, system: str) -> Any:
        """Vote for the answer of a system, on whichever side it stands."""
        number = int(self.fields()["shown"])
        item, left = self.desk.votes.read(
            lambda database: database.execute("SELECT item, left FROM shown WHERE number = ?", (number,)).fetchone()
        )
        at_left = self.desk.items[item].answers[left].system == system
        return self.vote("left" if at_left else "right")


@pytest.fixture
def annotator() -> Callable[..., Annotator]:
    return Annotator


@pytest.fixture
def number() -> Callable[[], str]:
    """A number for a vote, as a page makes it."""
    return lambda: secrets.token_hex(16)
