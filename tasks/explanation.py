"""What a run shows about itself: its page and, where it disappointed or somebody asks, the likeliest reason."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from lifecycle import recipes
from lifecycle.commands.diagnose import looked_at
from lifecycle.diagnosis.comparison import Comparison
from lifecycle.diagnosis.records import Records
from lifecycle.diagnosis.verdict import Diagnosis, diagnose
from lifecycle.report import comparison, diagnosis, run_page
from lifecycle.runs import Run, find_run
from lifecycle.store import Store
from tasks import markdown
from tasks.outbox import Tracker
from tasks.session import FLUSH_SECONDS, DiagnosisRequest
from tasks.tracking import one_line

if TYPE_CHECKING:
    from tasks.session import Session

DISAPPOINTING = ("BLOCKED", "INCONCLUSIVE", "FAILED")


def explain(session: "Session") -> None:
    """Draw the page; it shows what is sealed, so whatever goes wrong with it is said and stops nothing."""
    if not session.run.stages and session.state != "FAILED":
        return  # a promotion, a rollback: nothing was made
    try:
        run_page.write(session.store, session.run, session.run.page)
        session.tracker.record("report", run=session.run.name, path=str(session.run.page))
        if session.state in DISAPPOINTING:
            found = diagnose(Records(session.store, session.run))
            said = diagnosis.headline(found)
            session.display.say(f"{said}; python -m lifecycle diagnose {session.run.name}")
            markdown.publish(diagnosis.markdown(found), key="diagnosis", description=said)
    except Exception as error:
        session.display.say(f"the run's page could not be drawn: {one_line(error)}")


@task(cache_policy=NO_CACHE, persist_result=False)
def look_at(store: Store, request: DiagnosisRequest) -> tuple[Diagnosis, Comparison | None]:
    """Measure if asked for, and diagnose."""
    return looked_at(store, request.run, request.against, measured=request.measure, items=request.items, say=print)


@task(cache_policy=NO_CACHE, persist_result=False)
def publish(store: Store, found: Diagnosis, beside: Comparison | None) -> Path:
    """The answer among the run's artifacts in the UI, and the run's page drawn again with it, in MLflow too."""
    run = find_run(store, found.run)
    against = None if beside is None else find_run(store, beside.against)
    page = run.page if against is None else run.folder / f"report-against-{against.name}.html"
    run_page.write(store, run, page, against)
    text = diagnosis.markdown(found) + ("" if beside is None else "\n" + comparison.markdown(beside))
    with suppress(Exception):  # the page is the record; this is its picture
        markdown.publish(f"{text}\nThe whole page: `{page}`\n", key="diagnosis", description=diagnosis.headline(found))
    _send(store, run, page)
    return page


def _send(store: Store, run: Run, page: Path) -> None:
    """Put the page into the run's MLflow run, in the place of an older one of its name; what fails is said."""
    try:
        tracker = Tracker(store, recipes.load(run.record.recipe, run.record.settings).model_name)
        tracker.record("report", run=run.name, path=str(page))
        tracker.start()
        status = tracker.flush(FLUSH_SECONDS)
    except Exception as error:  # a recipe that is gone: its file was moved since
        print(f"MLflow was not told of the page: {one_line(error)}", flush=True)
        return
    if status.waiting:
        print(f"MLflow has not got the page yet: {status.problem or 'it is slow'}. The next run sends it.", flush=True)
