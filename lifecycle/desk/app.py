"""The pages of a desk. Every page works without its script, which adds keys, the time a decision took, and retries."""

import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import ChoiceLoader, Environment, FileSystemLoader
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from lifecycle.data.conversations import said
from lifecycle.desk import findings, pictures
from lifecycle.desk.folder import Desk
from lifecycle.desk.guard import Guard
from lifecycle.desk.markup import LONGEST, rendered
from lifecycle.desk.people import OWNER, Person, form_token
from lifecycle.desk.votes import CHOICES, Refused
from lifecycle.report.templates import HERE as REPORT
from lifecycle.report.templates import html_environment, style_sheet
from lifecycle.report.text import shown as visible

HERE = Path(__file__).parent
VOTE_ID = re.compile("[0-9a-f]{32}")
LONGEST_DECISION = 86_400.0  # seconds: whatever says more is no measurement
FIELDS = 40

Handler = Callable[[Request], Awaitable[Response]]


class Site:
    """The routes of one desk on one address."""

    def __init__(self, desk: Desk, *, origins: Sequence[str]) -> None:
        self.desk = desk
        scheme, _, host = origins[0].partition("://")
        self.secure = scheme == "https"
        self.cookie = f"desk-{host.rpartition(':')[2]}"  # cookies do not tell ports apart
        self._summary: tuple[int, findings.Findings] | None = None

    def routes(self) -> list[Route]:
        return [
            Route("/", self.compare, methods=["GET"]),
            Route("/a/{token}", self.begin, methods=["GET"]),
            Route("/enter", self.enter, methods=["POST"]),
            Route("/vote", self.vote, methods=["POST"]),
            Route("/undo", self.undo, methods=["POST"]),
            Route("/summary", self.summary, methods=["GET"]),
            Route("/desk.css", _file(style_sheet() + _text("desk.css"), "text/css"), methods=["GET"]),
            Route("/desk.js", _file(_text("desk.js"), "text/javascript"), methods=["GET"]),
            Route("/favicon.ico", _nothing, methods=["GET"]),
        ]

    async def begin(self, request: Request) -> Response:
        """What a link leads to: a word on what is asked, and a button. Entering is a POST from this page: a cookie that
        never leaves with another site's requests would be missing after a redirect from a mail.
        """
        token = request.path_params["token"]
        if (person := self.desk.people.who(token)) is None:
            return _said("This link is not valid.", "Ask whoever sent it for a new one.", 404)
        return _page("begin", person=person, token=token, owner=person.name == OWNER, items=self.desk.record.items)

    async def enter(self, request: Request) -> Response:
        form = await _form(request)
        if (person := self.desk.people.who(form.get("token", ""))) is None:
            return _said("This link is not valid.", "Ask whoever sent it for a new one.", 403)
        response = _to("/summary" if person.name == OWNER else "/")
        response.set_cookie(
            self.cookie, person.token, httponly=True, samesite="strict", secure=self.secure, max_age=90 * 86_400
        )
        return response

    async def compare(self, request: Request) -> Response:
        """The comparison before somebody, or thanks."""
        if (person := self._who(request)) is None:
            return _locked_out()
        if person.name == OWNER:
            return _to("/summary")
        return await run_in_threadpool(self._compare, person)

    def _compare(self, person: Person) -> Response:
        votes, turns = self.desk.votes, self.desk.turns
        shown = votes.show(person.name, lambda database: turns.next(person.name, database))
        done, asked = votes.read(lambda database: turns.asked(person.name, database))
        values: dict[str, Any] = {
            "person": person,
            "csrf": form_token(person),
            "done": done,
            "last": votes.last(person.name),
        }
        if shown is None:
            return _page("done", **values, undo_id=secrets.token_hex(16))
        item = self.desk.items[shown.item]
        left, right = item.answers[shown.left], item.answers[1 - shown.left]
        return _page(
            "compare",
            **values,
            asked=asked,
            shown=shown.number,
            prompt=[(turn["role"], said(turn)) for turn in item.prompt],  # type: ignore[arg-type]
            answers=[left.content, right.content],
            tags=self.desk.record.config.tags,
            vote_id=secrets.token_hex(16),
            undo_id=secrets.token_hex(16),
        )

    async def vote(self, request: Request) -> Response:
        person, form = self._who(request), await _form(request)
        if person is None:
            return _locked_out()
        if not _is_ours(form, person):
            return _no_token()
        id, number, choice = form.get("id", ""), form.get("shown", ""), form.get("choice", "")
        tags = [tag for tag in self.desk.record.config.tags if f"tag {tag}" in form]
        if not VOTE_ID.fullmatch(id) or not number.isascii() or not number.isdigit() or len(number) > 15:
            return _said("This is no vote.", "Go back to the comparison and vote there.", 400)
        if choice not in CHOICES:
            return _said("This is no vote.", f"Choose one of {', '.join(CHOICES)}.", 400)
        cast, seconds = self.desk.votes.cast, _seconds(form.get("seconds", ""))
        return await _answered(lambda: cast(id, person.name, int(number), choice, tags=tags, seconds=seconds))

    async def undo(self, request: Request) -> Response:
        person, form = self._who(request), await _form(request)
        if person is None:
            return _locked_out()
        if not _is_ours(form, person):
            return _no_token()
        id, undoes = form.get("id", ""), form.get("undoes", "")
        if not VOTE_ID.fullmatch(id) or not VOTE_ID.fullmatch(undoes):
            return _said("There is nothing to undo.", "Go back to the comparison.", 400)
        return await _answered(lambda: self.desk.votes.undo(id, person.name, undoes))

    async def summary(self, request: Request) -> Response:
        """For the owner alone: who knows what others said votes differently."""
        person = self._who(request)
        if person is None:
            return _locked_out()
        if person.name != OWNER:
            return _said("The summary is for the owner of the desk.", "Your comparisons are on the first page.", 403)
        return await run_in_threadpool(self._summarise)

    def _summarise(self) -> Response:
        rows = self.desk.votes.rows()
        if self._summary is None or self._summary[0] != rows:
            self._summary = rows, findings.of(self.desk)
        found = self._summary[1]
        return _page("summary", f=found, pictures=pictures.of(found), desk=self.desk)

    def _who(self, request: Request) -> Person | None:
        return self.desk.people.who(request.cookies.get(self.cookie, ""))


def application(desk: Desk, *, origins: Sequence[str]) -> Starlette:
    """The desk as an ASGI application; `origins` are the addresses it is reached under."""
    return Starlette(routes=Site(desk, origins=origins).routes(), middleware=[Middleware(Guard, origins=origins)])


async def _answered(count: Callable[[], bool]) -> Response:
    """On to the next comparison once the vote is on disk. A vote that was counted before is answered the same way."""
    try:
        await run_in_threadpool(count)
    except Refused as refused:
        return _said("This vote was not counted.", str(refused), 409)
    return _to("/")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; none where the body is no form, or says a field twice."""
    body = await request.body()
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        return {}
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS, errors="strict")
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items() if len(values) == 1}


def _is_ours(form: dict[str, str], person: Person) -> bool:
    return secrets.compare_digest(form.get("csrf", "").encode(), form_token(person).encode())


def _seconds(text: str) -> float | None:
    """How long a decision took, as the page measured it; None where it does not say."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return round(seconds, 2) if 0 <= seconds <= LONGEST_DECISION else None


def _page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(environment().get_template(f"{template}.html.jinja").render(**values), status)


def _said(headline: str, what: str, status: int) -> Response:
    return _page("said", status, headline=headline, what=what)


def _locked_out() -> Response:
    return _said("Please open your link.", "This page needs the personal link that you were given.", 401)


def _no_token() -> Response:
    return _said("This page is out of date.", "Go back to the comparison and vote there.", 403)


def _to(where: str) -> Response:
    return RedirectResponse(where, 303)


def _file(content: str, kind: str) -> Handler:
    async def send(request: Request) -> Response:
        return Response(content, media_type=kind)

    return send


async def _nothing(request: Request) -> Response:
    return Response(status_code=204)


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def environment() -> Environment:
    """The settings of all our pages: every value a template writes is made visible and escaped."""
    environment = html_environment().overlay(loader=ChoiceLoader([FileSystemLoader(HERE), FileSystemLoader(REPORT)]))
    own = {"markdown": rendered, "whole": lambda text: Markup.escape(visible(text, LONGEST))}
    environment.filters = {**environment.filters, **own}
    environment.globals = {**environment.globals, **pictures.WORDING}
    return environment
