"""The evaluation as a page: written beside the run's record, its tables in the Prefect UI, a copy in MLflow."""

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from lifecycle.report import evaluation, summary
from lifecycle.report.page import verdict
from tasks import markdown
from tasks.session import Session
from tasks.tracking import one_line


@task(cache_policy=NO_CACHE, persist_result=False)
def publish_report(session: Session) -> Path | None:
    """Where the page lies; None when it could not be drawn, which is said, and stops nothing."""
    run, logger = session.run, get_run_logger()
    try:
        findings = evaluation.findings_of(run)
        evaluation.write_page(findings, run, run.evaluation_page)
        session.tracker.record("report", run=run.name, path=str(run.evaluation_page))
        text = summary.markdown(findings, path=run.evaluation_page)
        markdown.publish(text, key="evaluation-report", description=verdict(findings))
    except Exception as error:  # whatever a picture, a disk or the UI raise: the decision is sealed, this only shows it
        problem = f"the evaluation's page could not be published: {one_line(error)}"
        logger.warning("%s", problem)
        session.display.say(problem)
        return None
    logger.info("report: %s", run.evaluation_page)
    return run.evaluation_page
