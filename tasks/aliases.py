"""MLflow's aliases as a mirror of the ledger, and the hand that moved one of them found out.

What we set is written on the registered model before and after, in a tag: an alias that says neither what we set nor
what we were about to set was moved by somebody else. It is named, and put back: the ledger is right.
"""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lifecycle import audit
from lifecycle.history import Entry
from lifecycle.ledger import Ledger
from lifecycle.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, PREVIOUS = "champion", "previous"
TAG = "lifecycle.aliases"
APPROVER = "lifecycle.approver"
"""Of a version: who last said that it may go live. The ledger has all of them, with their reasons."""

Versions = dict[str, str | None]
"""Which version each alias stands on; None for none."""


def mirror(client: "MlflowClient", store: Store, model_name: str) -> list[str]:
    """Make the aliases say what the ledger says now; a sentence for each that somebody moved by hand."""
    ledger = Ledger(store)
    entries, previous = ledger.entries(), ledger.previous()
    found = client.search_registered_models(f"name='{model_name}'") if entries else []
    if not found:
        return []
    wanted = {
        CHAMPION: version_of(client, model_name, entries[-1].release),
        PREVIOUS: version_of(client, model_name, previous.release) if previous else None,
    }
    if wanted[CHAMPION] is None:  # another model name by now, or another registry: nothing here is ours to move
        return []
    standing: Versions = {alias: _text(found[0].aliases.get(alias)) for alias in wanted}
    ours = _ours(found[0].tags.get(TAG), entries)
    if ours is not None and not any(entry.hash == ours["entry"] for entry in entries):
        said = [
            f"MLflow's aliases of {model_name!r} follow ledger entry {ours['entry'][:12]}, which {ledger.file} does "
            "not have: an older copy was put in its place. The aliases stay. Restore the newer ledger, or accept the "
            f"older one by deleting the tag {TAG!r} of the registered model"
        ]
        _write_down(store, said)
        return said
    moved = [] if ours is None else [alias for alias in wanted if standing[alias] not in _set_by_us(ours, alias)]
    said = [_sentence(client, model_name, alias, standing[alias], wanted[alias]) for alias in moved]
    _write_down(store, said)
    if standing != wanted:
        _tag(client, model_name, entries, was=standing, now=wanted, settled=False)
        if entries[-1].approver:
            client.set_model_version_tag(model_name, wanted[CHAMPION], APPROVER, entries[-1].approver)
        for alias, version in wanted.items():
            if version is not None:
                client.set_registered_model_alias(model_name, alias, version)
            elif standing[alias] is not None:
                client.delete_registered_model_alias(model_name, alias)
    if standing != wanted or ours is None or not ours["settled"] or ours["entry"] != entries[-1].hash:
        _tag(client, model_name, entries, was=wanted, now=wanted, settled=True)
    return said


def version_of(client: "MlflowClient", model_name: str, release_digest: str) -> str | None:
    """The version whose tag names this release's digest."""
    found = client.search_model_versions(f"name='{model_name}' and tags.`lifecycle.release`='{release_digest}'")
    return str(found[0].version) if found else None


def _ours(tag: str | None, entries: list[Entry]) -> dict[str, Any] | None:
    """What this ledger last set; None when it never did, or the tag is another ledger's or no tag of ours at all."""
    try:
        ours = json.loads(tag or "{}")
        return ours if ours["ledger"] == entries[0].hash else None
    except (ValueError, KeyError, TypeError):
        return None


def _set_by_us(ours: dict[str, Any], alias: str) -> set[str | None]:
    """A mirror that was interrupted leaves the old or the new version."""
    return {ours["now"].get(alias)} | (set() if ours["settled"] else {ours["was"].get(alias)})


def _tag(
    client: "MlflowClient", model_name: str, entries: list[Entry], *, was: Versions, now: Versions, settled: bool
) -> None:
    value = {"ledger": entries[0].hash, "entry": entries[-1].hash, "was": was, "now": now, "settled": settled}
    client.set_registered_model_tag(model_name, TAG, json.dumps(value))


def _sentence(client: "MlflowClient", model_name: str, alias: str, standing: str | None, wanted: str | None) -> str:
    return (
        f"MLflow's alias {alias!r} of {model_name!r} was moved by hand: expected "
        f"{_named(client, model_name, wanted)}, which the ledger says, found {_named(client, model_name, standing)}. "
        "It was put back; who wants another release live promotes it: python -m flows.promote"
    )


def _named(client: "MlflowClient", model_name: str, version: str | None) -> str:
    if version is None:
        return "no version"
    release = client.get_model_version(model_name, version).tags.get("lifecycle.release")
    return f"version {version} ({f'release {release[:12]}' if release else 'no release of ours'})"


def _text(version: str | int | None) -> str | None:
    return None if version is None else str(version)


def _write_down(store: Store, sentences: list[str]) -> None:
    """For the audit: who looks later must see it, whatever became of the run that found it."""
    if sentences:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with audit.aliases_file(store).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"at": at, "message": sentence}) + "\n" for sentence in sentences)
