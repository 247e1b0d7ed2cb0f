"""`servers.py start` beside servers that come and go."""

import os
import signal

import pytest

pytestmark = pytest.mark.slow  # 15 s: MLflow starts once more


def test_a_start_beside_a_server_that_is_just_ending_starts_it_again(house):
    file = house.home / "servers/mlflow.pid"
    ending = file.read_text()
    os.kill(int(ending.split()[0]), signal.SIGTERM)
    house.servers("start")
    assert file.read_text() != ending
    house.servers("status")  # fails where one is down
