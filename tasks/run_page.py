"""A run's page in the Prefect UI, for whoever sees it for the first time: its name, and one table that says it all."""

from contextlib import suppress
from textwrap import shorten
from typing import TYPE_CHECKING

from prefect import get_client
from prefect.runtime import flow_run

from lifecycle.pages.render import escaped
from lifecycle.report.key_numbers import duration
from lifecycle.report.screens import number_of
from tasks import markdown

if TYPE_CHECKING:
    from tasks.session import Session

CELL = 64  # characters that fit beside the other columns on a laptop's screen


def name_run(session: "Session") -> None:
    """The Prefect run gets the name it has in the store, in MLflow and in every report."""
    with suppress(Exception):  # a name that cannot be given must not stop what it names
        known = str(flow_run.name)
        again = f" {known[known.index('restart ') :]}" if "restart " in known else ""
        tags = {*(flow_run.tags or []), f"recipe:{session.recipe.name}"}
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run.id, name=f"{session.run.name}{again}", tags=sorted(tags))


def is_cancelling() -> bool:
    """Whether somebody pressed Cancel: the signal that ends a run is the same when its machine is taken away."""
    with suppress(Exception), get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run.id).state
        return state is not None and state.is_cancelling()
    return False


def sum_up(session: "Session") -> None:
    """What came out of every stage, how the run ended, and where to look further."""
    with suppress(Exception):  # the store has the record
        markdown.publish(page_of(session), key="run", description=f"{session.state}: {session.message}"[:250])


def page_of(session: "Session") -> str:
    """The summary as Markdown."""
    run, record = session.run, session.run.record
    lines = [
        f"# {run.name}: {session.state}",
        "",
        escaped(session.message) or "Every stage is sealed.",
        "",
        f"Recipe `{record.recipe.rpartition('/')[2]}`" + "".join(f", `{setting}`" for setting in record.settings),
        "",
        "| stage | | took | what came out |",
        "|---|---|---:|---|",
    ]
    for stage in run.stages:
        how, took = ("reused", "") if stage.reused else ("made", duration(stage.seconds))
        lines.append(
            f"| {stage.stage} | {how} | {took} | {escaped(shorten(number_of(stage), CELL, placeholder=' …'))} |"
        )
    return "\n".join([*lines, "", *_where(session)]) + "\n"


def _where(session: "Session") -> list[str]:
    run = session.run
    tracked = session.tracker.page_of(run.name)
    links = [f"- [MLflow: curves, parameters, the report]({tracked})"] if tracked else []
    pages = {
        "report": run.page,
        "evaluation": run.evaluation_page,
        "data card": run.data_card,
        "everything": run.folder,
    }
    return links + [f"- {what}: `{path}`" for what, path in pages.items() if path.exists()]
