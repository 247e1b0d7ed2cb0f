"""What is live: moved on by a passing decision, moved back by a person. The ledger decides, MLflow's aliases follow."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from lifecycle import provenance, sealing
from lifecycle.artifacts import GateDecision, Release
from lifecycle.errors import InputError, PromotionConflict
from lifecycle.ledger import Entry, Ledger
from lifecycle.store import Store
from tasks import approval, events, markdown
from tasks.session import PromotionRequest, Session

PREVIOUS = "previous"
NEWS = timedelta(days=1)
"""How old an entry of the ledger may be to be told of: less than alerts stay quiet about one they had."""


@task(cache_policy=NO_CACHE, persist_result=False)
def promote(session: Session, release: Release, decision: GateDecision, *, reason: str) -> Entry:
    """Make `release` live, if what it was compared with still is.

    The order is what makes a crash harmless: first a version in the registry, without which nothing moves; then the
    ledger, which is the truth; then the alias, which any later run mirrors again.
    """
    live = Ledger(session.store).live()
    return _promote(session, release, decision.against, live, reason=reason, by_name=False)


@task(cache_policy=NO_CACHE, persist_result=False)
def ask_for_approval(session: Session, release: Release, decision: GateDecision) -> None:
    """Show what is to be approved and where; whoever does it starts another run, so nothing of this one waits.

    Raises ReleaseWithdrawn where somebody rolled the checkpoint back: a nightly run does not ask for it every night.
    """
    Ledger(session.store).refuse_withdrawn(release)
    page = approval.page_of(session, release, decision)
    sealing.write_atomically(session.run.folder / "approval.md", page.encode())
    with suppress(Exception):  # the file beside the run's record says the same
        markdown.publish(page, key="approval", description=f"release {release.digest[:12]} awaits approval")


@task(cache_policy=NO_CACHE, persist_result=False)
def promote_by_name(session: Session, release: Release, live: Entry | None, request: PromotionRequest) -> Entry:
    """The same, asked for by a person who sees `live`: here a release that was rolled back may return."""
    proof = provenance.proven(session.store, release.path)
    if request.decision and not proof.decision.digest.startswith(request.decision.split()[0]):
        raise PromotionConflict(
            f"expected release {release.digest[:12]} to stand on decision {request.decision!r}, found it on "
            f"{proof.decision.digest[:12]}. Look at `python -m lifecycle show`, then decide again."
        )
    approver = request.approver or None
    return _promote(session, release, proof.against, live, reason=request.reason, by_name=True, approver=approver)


@task(cache_policy=NO_CACHE, persist_result=False)
def roll_back(session: Session, release: Release, live: Entry | None, request: PromotionRequest) -> Entry:
    """Make an earlier release live again, if `live` still is. It does not wait for the tracker: going back must work in
    an outage."""
    if live is None:
        raise InputError("expected a live release to roll back from, found none. Nothing was ever promoted here.")
    entry = Ledger(session.store).rollback(
        release, expected=live.release, reason=request.reason, approver=request.approver or None
    )
    session.tracker.record("aliases")
    _tell(session, entry)
    get_run_logger().info("release %s is live again", release.digest[:12])
    return entry


def is_live(session: Session, release: Release) -> bool:
    """Whether this release is live already: a run again of what was approved has nothing to ask."""
    live = Ledger(session.store).live()
    return live is not None and live.release == release.digest


def _promote(
    session: Session,
    release: Release,
    against: str | None,
    live: Entry | None,
    *,
    reason: str,
    by_name: bool,
    approver: str | None = None,
) -> Entry:
    if live is not None and live.release == release.digest:
        get_run_logger().info("release %s is live already", release.digest[:12])
        _tell(session, live)
        return live
    compared_with = (against, release.checkpoint_digest)
    expected = live.release if live is not None and live.checkpoint in compared_with else against
    version = session.tracker.register(release, session.run.name)
    entry = Ledger(session.store).promote(release, expected=expected, reason=reason, by_name=by_name, approver=approver)
    session.tracker.record("aliases")
    _tell(session, entry)
    get_run_logger().info(
        "release %s is live, version %s of %s", release.digest[:12], version, session.recipe.model_name
    )
    return entry


def _tell(session: Session, entry: Entry) -> None:
    """Another champion, by its entry in the ledger: told again by a run that goes on after a crash, and heard once."""
    age = datetime.now(UTC) - datetime.fromisoformat(entry.at)
    if age < NEWS:
        by = f", approved by {entry.approver}" if entry.approver else ""
        message = f"{entry.action}: release {entry.release[:12]} is live{by}: {entry.reason}"
        facts = {"release": entry.release, "replaced": entry.replaced or ""}
        events.tell(events.CHAMPION_CHANGED, entry.hash, session.recipe.model_name, message, facts)


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
