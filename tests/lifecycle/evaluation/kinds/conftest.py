"""Replies as the engine would give them."""

import pytest

from lifecycle.evaluation.kinds.suite import Reply


def make_reply(text="", *, mode="greedy", sample=0, stopped=True, fault=None, **more) -> Reply:
    return Reply(mode, "0" * 16, sample, text=text, stopped=stopped, fault=fault, tokens=3, **more)


@pytest.fixture
def reply():
    return make_reply
