"""What is live: moved on by a passing decision, moved back by a person. The ledger decides, MLflow's aliases follow."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from lifecycle import provenance
from lifecycle.artifacts import GateDecision, Release
from lifecycle.errors import InputError, PromotionConflict
from lifecycle.ledger import Entry, Ledger
from lifecycle.store import Store
from tasks.session import PromotionRequest, Session

PREVIOUS = "previous"


@task(cache_policy=NO_CACHE, persist_result=False)
def promote(session: Session, release: Release, decision: GateDecision, *, reason: str) -> Entry:
    """Make `release` live, if what it was compared with still is.

    The order is what makes a crash harmless: first a version in the registry, without which nothing moves; then the
    ledger, which is the truth; then the alias, which any later run mirrors again.
    """
    live = Ledger(session.store).live()
    return _promote(session, release, decision.against, live, reason=reason, by_name=False)


@task(cache_policy=NO_CACHE, persist_result=False)
def promote_by_name(session: Session, release: Release, live: Entry | None, *, reason: str) -> Entry:
    """The same, asked for by a person who sees `live`: here a release that was rolled back may return."""
    against = provenance.proven(session.store, release.path).against
    return _promote(session, release, against, live, reason=reason, by_name=True)


@task(cache_policy=NO_CACHE, persist_result=False)
def roll_back(session: Session, release: Release, live: Entry | None, *, reason: str) -> Entry:
    """Make an earlier release live again, if `live` still is. It does not wait for the tracker: going back must work in
    an outage."""
    if live is None:
        raise InputError("expected a live release to roll back from, found none. Nothing was ever promoted here.")
    entry = Ledger(session.store).rollback(release, expected=live.release, reason=reason)
    session.tracker.record("aliases")
    get_run_logger().info("release %s is live again", release.digest[:12])
    return entry


def _promote(
    session: Session, release: Release, against: str | None, live: Entry | None, *, reason: str, by_name: bool
) -> Entry:
    if live is not None and live.release == release.digest:
        get_run_logger().info("release %s is live already", release.digest[:12])
        return live
    compared_with = (against, release.checkpoint_digest)
    expected = live.release if live is not None and live.checkpoint in compared_with else against
    version = session.tracker.register(release, session.run.name)
    entry = Ledger(session.store).promote(release, expected=expected, reason=reason, by_name=by_name)
    session.tracker.record("aliases")
    get_run_logger().info(
        "release %s is live, version %s of %s", release.digest[:12], version, session.recipe.model_name
    )
    return entry


def seen_live(store: Store, expected: str) -> Entry | None:
    """What is live, held against how the digest begins that a person says he sees live."""
    live = Ledger(store).live()
    found = live.release if live else "nothing"
    if expected and not found.startswith(expected):
        raise PromotionConflict(
            f"expected a release that begins {expected!r} to be live, found {found[:12]}: somebody moved it meanwhile. "
            "Look at `python -m lifecycle audit`, then decide again."
        )
    return live


def find_release(store: Store, request: PromotionRequest) -> Release:
    """The release asked for, every file verified; `previous` is what the live one was promoted over."""
    digest = request.release
    if digest == PREVIOUS:
        digest = _previous(Ledger(store), is_sure=bool(request.expected))
    found = {known: folder for folder, known in provenance.releases(store).items()}
    matching = [known for known in found if known.startswith(digest)]
    if len(matching) != 1:
        gone = {entry.release for entry in Ledger(store).entries() if entry.release.startswith(digest)} - set(found)
        if gone:
            provenance.folder_of(store, gone.pop())
        known = ", ".join(sorted(d[:12] for d in found)) or "none"
        raise InputError(
            f"expected one release whose digest begins {digest!r}, found {len(matching)}. Releases: {known}."
        )
    return Release.load(found[matching[0]])


def _previous(ledger: Ledger, *, is_sure: bool) -> str:
    live, previous = ledger.live(), ledger.previous()
    if live is not None and live.action == "rollback" and not is_sure:
        raise InputError(
            f"expected to know what `previous` means, found that {live.release[:12]} is live by a rollback from "
            f"{str(live.replaced)[:12]} ({live.at}, {live.reason!r}): somebody else may have gone back already. Name "
            f"the release, or go back further with --expected {live.release[:12]}."
        )
    if previous is None:
        raise InputError(
            "expected a release before the live one, found none. `python -m lifecycle audit` lists what was ever live."
        )
    return previous.release
