"""The page of a run, drawn when it ends; where it disappointed, the likeliest reason, said here and in the UI."""

from typing import TYPE_CHECKING

from lifecycle.diagnosis.records import Records
from lifecycle.diagnosis.verdict import diagnose
from lifecycle.report import diagnosis, run_page
from tasks import markdown
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
            session.display.say(f"most likely {said}; python -m lifecycle diagnose {session.run.name}")
            markdown.publish(diagnosis.markdown(found), key="diagnosis", description=said)
    except Exception as error:
        session.display.say(f"the run's page could not be drawn: {one_line(error)}")
