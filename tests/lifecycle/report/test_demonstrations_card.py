"""What demonstrations say of themselves: the same numbers on the terminal, for programs and on the page."""

import io
import json

import orjson
import pytest
from rich.console import Console

from lifecycle.artifacts import Suites
from lifecycle.data.answers import AnswerRules
from lifecycle.data.conversation_sources import ConversationSource
from lifecycle.errors import DamagedArtifact, InputError
from lifecycle.report import data_card_screens
from lifecycle.report import demonstrations_card_shown as shown
from lifecycle.report.demonstrations_card import card_of
from lifecycle.sealing import StageConfig
from lifecycle.stages.demonstrations import DemonstrationsConfig, curate_demonstrations


class MadeUp(StageConfig):
    """The config of suites made by hand."""

    stage = "made_up"


def row(number: int, answer: str) -> dict:
    turns = [{"role": "user", "content": f"Question {number} <script>?"}, {"role": "assistant", "content": answer}]
    return {"id": f"r{number}", "messages": turns}


@pytest.fixture
def folder(tmp_path):
    """20 rows, four of which loop, two of which are none."""
    item = {"id": "i", "messages": row(99, "")["messages"][:1]}
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "s.jsonl").write_bytes(orjson.dumps(item) + b"\n")
    suites = Suites(path=tmp_path / "suites", items={"s": 1}, baselines={}).seal(MadeUp())
    rows = [row(n, f"Answer {n}.") for n in range(14)] + [row(20 + n, "so it is " * 9) for n in range(4)]
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in [*rows, {"messages": 1}, {"text": "a"}]))
    source = ConversationSource(name="made-up", path=file, licence="CC-BY-NC-4.0")
    (tmp_path / "out").mkdir()
    config = DemonstrationsConfig(sources=(source,), max_bad_row_share=0.2, dev_share=0.1, quality=AnswerRules())
    curate_demonstrations(config, suites, out_dir=tmp_path / "out")
    return tmp_path / "out"


def printed(renderable) -> str:
    out = io.StringIO()
    Console(file=out, width=140).print(renderable)
    return out.getvalue()


def test_the_funnel_the_sources_and_what_to_look_at_are_on_the_terminal(folder):
    text = printed(shown.screen(card_of(folder)))
    assert "13 conversations to train on from 1 source" in text
    assert "−4 answer_looping" in text
    assert "forbids commercial use" in text
    assert "off: language, near duplicates" in text


def test_examples_are_real_and_the_page_shows_them_as_text(folder):
    card = card_of(folder)
    assert "so it is so it is" in printed(data_card_screens.examples_screen(card, "answer_looping"))
    with pytest.raises(InputError, match="expected a reason for which conversations were dropped"):
        shown.as_data(card, "gopher_word_count")
    page = shown.page(card, name="try <b>", command="python -m lifecycle report demonstrations try")
    assert "Question 20 &lt;script&gt;?" in page
    assert "<script>" not in page
    assert "<b>" not in page.replace("<b>off</b>", "")


def test_programs_get_the_same_numbers(folder):
    found = json.loads(json.dumps(shown.as_data(card_of(folder))))
    assert found["dropped"] == {"train_answer_looping": 4, "train_row_of_unknown_shape": 2}
    assert found["report"]["kinds"]["made-up"]["conversations"] == 18
    assert shown.as_data(card_of(folder), "answer_looping")["conversations"] == 4


def test_a_report_that_was_changed_after_sealing_is_not_shown(folder):
    file = folder / "log" / "report.json"
    file.write_bytes(file.read_bytes().replace(b"18", b"81"))
    with pytest.raises(DamagedArtifact, match=r"found other bytes than were sealed"):
        card_of(folder)
