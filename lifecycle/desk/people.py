"""Who may enter a desk: pseudonyms with an unguessable token each, in a file that only its owner can read."""

import hmac
import json
import secrets
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from lifecycle.errors import InputError
from lifecycle.sealing import write_atomically

FILE = "people.json"
OWNER = "owner"
TOKEN_BYTES = 24


class Person(BaseModel):
    """One link. The owner's leads to the summary; everybody else's to comparisons."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    token: str
    revoked: bool = False


class People:
    """The links of a desk. Read anew at every use: one that is revoked is dead at once, also in a running server."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def all(self) -> list[Person]:
        """Everybody, the owner first."""
        try:
            return [Person.model_validate(person) for person in json.loads(self.path.read_bytes())]
        except FileNotFoundError:
            return []

    def at_least(self, annotators: int) -> list[Person]:
        """Everybody, after adding who is missing."""
        people = self.all() or [_new(OWNER)]
        numbers = range(len(people), max(len(people), annotators + 1))
        added = [*people, *(_new(f"annotator-{number}") for number in numbers)]
        if added != self.all():
            self._save(added)
        return added

    def revoke(self, name: str) -> None:
        """End a link; the votes cast with it stay."""
        self._change(name, revoked=True)

    def renew(self, name: str) -> Person:
        """Give somebody a new link in place of the old one: for a link that was lost or seen by others."""
        self._change(name, revoked=False, token=secrets.token_urlsafe(TOKEN_BYTES))
        return next(person for person in self.all() if person.name == name)

    def who(self, token: str) -> Person | None:
        """Whose token this is, if it is one that lives. How long the answer takes says nothing about tokens."""
        found = [person for person in self.all() if hmac.compare_digest(_digest(person.token), _digest(token))]
        return found[0] if found and not found[0].revoked else None

    def _change(self, name: str, **values: object) -> None:
        people = self.all()
        if name not in [person.name for person in people]:
            names = ", ".join(person.name for person in people)
            raise InputError(f"expected one of {names}, found {name!r}. Check the name.")
        self._save([person.model_copy(update=values) if person.name == name else person for person in people])

    def _save(self, people: list[Person]) -> None:
        rows = [person.model_dump() for person in people]
        write_atomically(self.path, json.dumps(rows, indent=1).encode())
        self.path.chmod(0o600)


def form_token(person: Person) -> str:
    """What a form of ours must bring back: it follows from the person's secret, which no other site knows."""
    return hmac.new(person.token.encode(), b"form", sha256).hexdigest()


def _new(name: str) -> Person:
    return Person(name=name, token=secrets.token_urlsafe(TOKEN_BYTES))


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "replace")).digest()
