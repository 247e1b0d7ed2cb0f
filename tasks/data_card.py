"""The data card: written beside the run's record, its tables in the Prefect UI, the page in MLflow."""

from prefect import get_run_logger

from lifecycle.report import data_card_page
from lifecycle.report.data_card import headline
from tasks import markdown
from tasks.session import Session
from tasks.tracking import one_line


def publish_data_card(session: Session) -> None:
    """Called when the corpus is there, and again when its tokenizer is: the second card takes the place of the first.

    A card that cannot be drawn is said, and stops nothing: what it shows is sealed.
    """
    run = session.run
    try:
        card = data_card_page.write_cards(run)
        session.tracker.record("report", run=run.name, path=str(run.data_card))
        page = run.data_card.with_suffix(".md").read_text(encoding="utf-8")
        markdown.publish(page, key="data-card", description=headline(card))
    except Exception as error:  # whatever a picture, a disk or the UI raise
        problem = f"the data card could not be published: {one_line(error)}"
        get_run_logger().warning("%s", problem)
        session.display.say(problem)
