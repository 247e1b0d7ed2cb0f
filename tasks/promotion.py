"""What is live: moved on by a passing decision, moved back by a person. The ledger decides, MLflow's aliases follow."""

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from lifecycle import sealing
from lifecycle.artifacts import GateDecision, Release
from lifecycle.errors import DamagedArtifact, InputError
from lifecycle.ledger import Entry, Ledger
from lifecycle.store import Store
from tasks.session import Session


@task(cache_policy=NO_CACHE, persist_result=False)
def promote(session: Session, release: Release, decision: GateDecision, *, reason: str) -> Entry:
    """Make `release` live, if what it was compared with still is.

    The order is what makes a crash harmless: first a version in the registry, without which nothing moves; then the
    ledger, which is the truth; then the alias, which any later run mirrors again.
    """
    ledger = Ledger(session.store)
    live = ledger.live()
    if live is not None and live.release == release.digest:
        get_run_logger().info("release %s is live already", release.digest[:12])
        return live
    compared_with = (decision.against, release.checkpoint_digest)
    expected = live.release if live is not None and live.checkpoint in compared_with else decision.against
    version = session.tracker.register(release, session.run.name)
    entry = ledger.promote(release, decision, expected=expected, reason=reason)
    session.tracker.record("aliases")
    get_run_logger().info(
        "release %s is live, version %s of %s", release.digest[:12], version, session.recipe.model_name
    )
    return entry


@task(cache_policy=NO_CACHE, persist_result=False)
def roll_back(session: Session, release: Release, *, reason: str) -> Entry:
    """Make an earlier release live again. It does not wait for the tracker: going back must work in an outage."""
    ledger = Ledger(session.store)
    live = ledger.live()
    if live is None:
        raise InputError("expected a live release to roll back from, found none. Nothing was ever promoted here.")
    entry = ledger.rollback(release, expected=live.release, reason=reason)
    session.tracker.record("aliases")
    get_run_logger().info("release %s is live again", release.digest[:12])
    return entry


def find_release(store: Store, digest: str) -> Release:
    """The release whose digest begins so, every file verified; `previous` is what the live one replaced."""
    if digest == "previous":
        live = Ledger(store).live()
        if live is None or live.replaced is None:
            raise InputError(
                "expected a release before the live one, found none. `python -m lifecycle show` lists releases."
            )
        digest = live.replaced
    found = {sealing.read_manifest(path).digest: path for path in release_folders(store)}
    matching = [known for known in found if known.startswith(digest)]
    if len(matching) != 1:
        known = ", ".join(sorted(d[:12] for d in found)) or "none"
        raise InputError(
            f"expected one release whose digest begins {digest!r}, found {len(matching)}. Releases: {known}."
        )
    return Release.load(found[matching[0]])


def decision_for(store: Store, release: Release) -> GateDecision:
    """The decision the release was made on."""
    decision = store.find(release.decision_digest)
    if not isinstance(decision, GateDecision):
        raise DamagedArtifact(
            f"expected {release.decision_digest[:12]} to be a decision, found {type(decision).__name__}."
        )
    return decision


def release_folders(store: Store) -> list[Path]:
    """Where the sealed releases of a store are."""
    return [path.parent for path in sorted((store.root / "artifacts" / "release").glob(f"*/{sealing.MANIFEST}"))]
