"""A data card that cannot be drawn is said, and stops nothing."""

import logging
from types import SimpleNamespace

from lifecycle.runs import Run
from lifecycle.store import Store
from tasks import data_card


def test_a_run_whose_card_cannot_be_drawn_goes_on_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(data_card, "get_run_logger", lambda: logging.getLogger("run"))  # there is no flow run here
    said, recorded = [], []
    session = SimpleNamespace(
        run=Run.start(Store(tmp_path), flow="prepare-data", recipe="tiny", settings=[]),
        tracker=SimpleNamespace(record=lambda *event, **more: recorded.append(event)),
        display=SimpleNamespace(say=said.append),
    )
    data_card.publish_data_card(session)
    assert said[0].startswith("the data card could not be published: InputError: expected a run with a corpus")
    assert recorded == []
