"""`servers.py start` beside servers that come and go."""

import os
import signal
import urllib.error
import urllib.request

import pytest

pytestmark = pytest.mark.slow  # 15 s: MLflow starts once more


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/health", timeout=5).close()
    except (OSError, urllib.error.URLError):
        return False
    return True


def test_a_start_beside_a_server_that_is_just_ending_starts_it_again(house):
    file, url = house.home / "servers/mlflow.pid", house.environment["MLFLOW_TRACKING_URI"]
    ending = file.read_text()
    os.kill(int(ending.split()[0]), signal.SIGTERM)
    house.wait_for(lambda: not answers(url), 30, every=0.05)  # before that nobody can tell that it is ending
    house.servers("start")
    assert file.read_text() != ending
    house.servers("status")  # fails where one is down
