"""The page as people have it: headless Chromium, by keyboard alone, on a phone, and while the server is away."""

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from lifecycle.desk.app import application
from lifecycle.desk.serve import listening, origins

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

PATIENCE = 60_000  # milliseconds; a busy machine takes its time to draw a page


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    playwright = pytest.importorskip("playwright.sync_api", reason="comes with the dev extra")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as playing:
        # Chromium's sandbox needs namespaces that containers seldom have; the only pages seen here are our own.
        chromium = playing.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Served:
    """A desk on a port of this machine, in a thread: it can go away and come back."""

    def __init__(self, desk: Any) -> None:
        self.desk, self.port = desk, 0
        self.start()

    def start(self) -> None:
        listener = listening("127.0.0.1", self.port)
        self.port = listener.getsockname()[1]
        app = application(self.desk, origins=origins("127.0.0.1", self.port, None))
        self.server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        )
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()

    def link(self, name: str) -> str:
        token = next(person.token for person in self.desk.people.all() if person.name == name)
        return f"http://127.0.0.1:{self.port}/a/{token}"


@pytest.fixture
def served(make: Callable[..., Any]) -> Iterator[Callable[..., Served]]:
    running: list[Served] = []

    def serve(*items: Any, **config: Any) -> Served:
        running.append(Served(make(*items, **config)))
        return running[-1]

    yield serve
    for one in running:
        one.stop()


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Callable[..., "Page"]]:
    """Somebody's page after the button; what a console says is an error of ours."""
    said: list[str] = []
    contexts = []

    def visit(desk: Served, name: str = "annotator-1", **device: Any) -> "Page":
        context = browser.new_context(**device)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"a dialog: {dialog.message}"))
        page.on("request", lambda asked: said.append(asked.url) if f":{desk.port}/" not in asked.url else None)
        page.goto(desk.link(name))
        page.get_by_role("button").press("Enter")
        page.wait_for_url(re.compile(r":\d+/(summary)?$"))
        return page

    yield visit
    for context in contexts:
        context.close()
    assert said == [], "no script error, no dialog, no request to anywhere else"


def press(page: "Page", key: str) -> None:
    """A key, and the page that follows it."""
    before = page.locator("input[name=shown]").get_attribute("value")
    page.keyboard.press(key)
    page.wait_for_function("n => document.querySelector('input[name=shown]')?.value !== n", arg=before)


def test_a_scripted_annotator_votes_by_keyboard_alone(served, visit):
    desk = served(30, repeat_share=0)
    page = visit(desk)
    assert page.title() == "Comparison 1 of 30"
    for key in "120bs":
        press(page, key)
    votes = desk.desk.votes.counted()
    assert [vote.choice for vote in votes] == ["left", "right", "tie", "both_bad", "skip"]
    assert all(0 < vote.seconds < 600 for vote in votes), "measured by the page"
    assert page.title() == "Comparison 6 of 30"

    press(page, "u")
    assert page.title() == "Comparison 5 of 30"
    for _ in range(9):  # the tags, reached and ticked without a mouse
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "tag clear":
            break
    ring = page.evaluate("getComputedStyle(document.activeElement.closest('label')).outlineWidth")
    assert ring == "3px", "one sees where one is"
    page.keyboard.press("Space")
    press(page, "2")
    assert desk.desk.votes.counted()[-1].tags == ("clear",)


def test_a_vote_while_the_server_is_away_is_sent_when_it_is_back_and_once(served, visit):
    desk = served(12)
    page = visit(desk)
    press(page, "1")
    desk.stop()
    before = page.locator("input[name=shown]").get_attribute("value")
    page.keyboard.press("2")
    page.get_by_text("Not saved yet").wait_for()
    page.keyboard.press("1")  # of no effect: a vote is on its way
    desk.start()
    page.wait_for_function("n => document.querySelector('input[name=shown]')?.value !== n", arg=before)
    assert [vote.choice for vote in desk.desk.votes.counted()] == ["left", "right"]


def test_double_clicks_and_the_back_button_change_nothing(served, visit):
    desk = served(12)
    page = visit(desk)
    before = page.locator("input[name=shown]").get_attribute("value")
    page.get_by_role("button", name="Tie").dblclick()
    page.wait_for_function("n => document.querySelector('input[name=shown]')?.value !== n", arg=before)
    page.go_back()
    page.go_forward()
    assert [vote.choice for vote in desk.desk.votes.counted()] == ["tie"]


def test_what_a_model_wrote_does_nothing_in_a_browser(served, visit):
    attack = "<script>alert(1)</script> <img src=//evil.example/x onerror=alert(2)> "
    attack += "![x](//evil.example/y) [a](//evil.example) \u202eabc"
    rows = [{"prompt": [{"role": "user", "content": attack}], "answers": [{"content": attack}, {"content": "no"}]}]
    page = visit(served(rows))
    assert page.locator("main img, main a, main script").count() == 0
    assert page.get_by_text("<script>alert(1)</script>").count() == 2


def test_on_a_phone_nothing_is_wider_than_the_screen_and_every_button_can_be_hit(served, visit):
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    page = visit(served(12), **phone)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for button in page.locator("#choice button").all():
        box = button.bounding_box()
        assert box["height"] >= 44
        assert box["y"] + box["height"] <= 844
        assert box["x"] + box["width"] <= 390


def test_the_summary_follows_the_votes(served, visit):
    desk = served(12)
    page = visit(desk, "owner")
    assert page.get_by_text("0 votes by 0 annotators").count() == 1
    other = visit(desk)
    press(other, "1")
    page.bring_to_front()
    page.get_by_text("1 vote by 1 annotator").wait_for()
