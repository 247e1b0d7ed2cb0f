"""Promotions and rollbacks killed before each of their durable steps, on the real ledger, outbox and MLflow database.

As a program it plays one history for every step and prints how each ended: `python killed_promotions.py FOLDER`. It is
a program because MLflow takes seconds to import: that is paid once, and every process that dies is forked from here.
"""

import itertools
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect.logging import disable_run_logger
from releases import make_release

from lifecycle import history, sealing
from lifecycle.artifacts import GateDecision, Release
from lifecycle.audit import audit, moved_aliases
from lifecycle.ledger import Ledger
from lifecycle.store import Store
from tasks import promotion
from tasks.session import PromotionRequest, Request, Session
from tasks.tracking import _import_mlflow

MODEL = "killed"
MLFLOW_WRITES = (
    "create_registered_model",
    "create_run",
    "create_model_version",
    "set_registered_model_tag",
)
MLFLOW_ALIASES = ("set_registered_model_alias", "delete_registered_model_alias")


class Steps:
    """Counts what must survive a crash, in the order it happens, and kills this process before number `kill_before`."""

    def __init__(self, kill_before: int) -> None:
        self.kill_before, self.seen = kill_before, list[str]()

    def watch(self, owner: Any, name: str, what: Callable[..., str] | str = "") -> None:
        does = getattr(owner, name)

        def step(*args: Any, **more: Any) -> Any:
            self.seen.append(what(*args) if callable(what) else what or name)
            if len(self.seen) == self.kill_before:
                os.write(1, json.dumps(self.seen[-1]).encode())
                os.kill(os.getpid(), signal.SIGKILL)
            return does(*args, **more)

        setattr(owner, name, step)

    def watch_all(self) -> None:
        """The registry, the ledger's three steps, the outbox, the mirror: everything a promotion leaves behind."""
        client = _import_mlflow().MlflowClient
        for name in MLFLOW_WRITES:
            self.watch(client, name)
        for name in MLFLOW_ALIASES:
            self.watch(client, name, lambda _, model, alias, *more, name=name: f"{name} {alias}")
        self.watch(history, "write_atomically", lambda path, content: f"ledger {json.loads(content)['state']}")
        self.watch(history, "_fsync", "ledger line written")
        self.watch(sealing, "write_atomically", lambda path, _: "write event")
        self.watch(Path, "unlink", lambda path: "remove event")


def command(store: Store, action: str, release: Release) -> None:
    """What `flows.promote` and `flows.rollback` do, with the replay of the outbox here and not in a thread."""
    session = Session(Request(settings=[f"model_name={MODEL}"], store=store.root), action, ())
    with disable_run_logger():
        if action == "rollback":
            asked = PromotionRequest(store=store.root, release=release.digest, reason="it swears")
            promotion.roll_back.fn(session, release, promotion.seen_live(store, None), asked)
        else:
            decision = store.find(release.decision_digest)
            assert isinstance(decision, GateDecision)
            promotion.promote.fn(session, release, decision, reason="gate")
    session.tracker.record("aliases")
    session.tracker._replay()


def ended(store: Store) -> dict[str, Any]:
    """All there is to see when nothing runs any more."""
    client = mlflow_client(store)
    (model,) = client.search_registered_models(f"name='{MODEL}'")
    versions = client.search_model_versions(f"name='{MODEL}'")
    names = {str(version.version): version.tags["lifecycle.release"] for version in versions}
    return {
        "entries": [f"{entry.action} {entry.release}" for entry in Ledger(store).entries()],
        "versions": sorted(names.values()),
        "aliases": {alias: names[str(version)] for alias, version in model.aliases.items()},
        "events": sorted(path.name for path in (store.root / "tracking").rglob("*.json*")),
        "moved_by_hand": moved_aliases(store),
        "leftovers": sorted(path.name for path in store.root.glob(".*")),
        "audit": audit(store).first_break,
    }


def mlflow_client(store: Store) -> Any:
    return _import_mlflow().MlflowClient(f"sqlite:///{store.root / 'mlflow.db'}")


def in_a_child(does: Callable[[], object]) -> tuple[Any, bool]:
    """What a forked process said, and whether it was killed."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writes, 1)
        try:
            os.write(1, json.dumps(does()).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as answer:
        said = json.load(answer)
    return said, os.WIFSIGNALED(os.waitpid(child, 0)[1])


def histories(place: Path, sealed: Path, action: str, release: str, until: str) -> Iterator[dict[str, Any]]:
    """The command on copies of a store: uninterrupted, then killed before each of its steps and given again."""
    for kill_before in itertools.count():
        with copied(sealed, place) as store:

            def once(steps: Steps, store: Store = store) -> dict[str, Any]:
                steps.watch_all()
                command(store, action, sealed_release(store, release))
                return ended(store)

            said, killed = in_a_child(lambda once=once, number=kill_before: once(Steps(number)))
            if kill_before and (not killed or said == until):
                return
            history = {"killed_before": said if killed else None, "audit_at_once": audit(store).first_break}
            yield {**history, "ended": in_a_child(lambda once=once: once(Steps(0)))[0] if killed else said}


def play(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Histories of a first promotion, of one over another release, and of a rollback."""
    sealed, place, played = root / "sealed", root / "store", {}
    make_release(Store(sealed), "b", against=make_release(Store(sealed), "a"))
    # Everything once in this process, in the place of all histories: every child then finds the tables made, MLflow
    # imported and its queries compiled.
    with copied(sealed, place) as store:
        mlflow_client(store).search_experiments()
        shutil.copy(store.root / "mlflow.db", sealed)
        command(store, "promote", sealed_release(store, "a"))
        command(store, "promote", sealed_release(store, "b"))
        ended(store)
    for name, action, release, until in (
        ("first", "promote", "a", "ledger line written"),  # from here on as the second
        ("second", "promote", "b", ""),
        ("rollback", "rollback", "a", ""),
    ):
        played[name] = list(histories(place, sealed, action, release, until))
        with copied(sealed, place) as store:
            in_a_child(lambda store=store, ask=(action, release): command(store, ask[0], sealed_release(store, ask[1])))
            shutil.rmtree(sealed)
            shutil.copytree(place, sealed)
    return played


@contextmanager
def copied(sealed: Path, place: Path) -> Iterator[Store]:
    """A store like that one, in this place while it is needed."""
    shutil.copytree(sealed, place)
    yield Store(place)
    client = mlflow_client(Store(place))
    for mlflow_store in (client._tracking_client.store, client._get_registry_client().store):
        mlflow_store.engine.dispose()  # no open connection may cross a fork
    shutil.rmtree(place)


def sealed_release(store: Store, name: str) -> Release:
    return Release.load(next(store.root.glob(f"artifacts/release/{name}-*")))


if __name__ == "__main__":
    print(json.dumps(play(Path(sys.argv[1]))))
