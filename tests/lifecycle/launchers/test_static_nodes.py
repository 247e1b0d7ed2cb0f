"""Two agents on one machine: a job outlives its flow, and what happens to one node happens to all. Real processes."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from steps import alive, environment, findings, moments, starts, worker

from lifecycle.launchers.shape import Handle, Resources, Status
from lifecycle.launchers.static_nodes import StaticNodes, open_calls

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

AGENT = """
import sys
from pathlib import Path
from lifecycle.launchers.agent import Agent
Agent(Path(sys.argv[1]), int(sys.argv[2]), address="127.0.0.1", tell=lambda line: None).serve()
"""
TWO = Resources(nodes=2, hang_timeout_seconds=30, max_restarts=3)


class Cluster:
    """Two agents, and the board they watch."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path, self.board, self.job = tmp_path, tmp_path / "nodes", tmp_path / "job"
        self.job.mkdir()
        self.agents: dict[int, subprocess.Popen[bytes]] = {}
        for node in (0, 1):
            self.join(node)

    def join(self, node: int) -> None:
        command = [sys.executable, "-c", AGENT, str(self.board), str(node)]
        self.agents[node] = subprocess.Popen(command, env=environment(self.tmp_path))

    def kill(self, node: int) -> None:
        self.agents[node].kill()
        self.agents[node].wait()

    def submit(self, body: str) -> Handle:
        return StaticNodes(self.board).submit(worker(self.tmp_path, body), self.job, "steps-1", TWO)

    def wait_for_starts(self, times: int = 1) -> None:
        for _ in moments():
            if min(len(starts(self.job, node)) for node in (0, 1)) >= times:
                return

    def end_of(self, handle: Handle) -> Status:
        launcher = StaticNodes(self.board)
        for _ in moments():
            if (status := launcher.status(handle)).state not in ("waiting", "running"):
                return status
        raise AssertionError


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    for node in cluster.agents:
        cluster.kill(node)


def test_a_job_outlives_the_flow_and_the_next_one_attaches_to_it(cluster):
    handle = cluster.submit("time.sleep(0.3 if mine == 'ranks-1' else 0.2)")  # node 0 waits for node 1 at the end
    cluster.wait_for_starts()
    next_flow = StaticNodes(cluster.board)
    assert next_flow.reattach("steps-1") == handle
    assert next_flow.reattach("steps-2") is None
    assert next_flow.submit("other", cluster.job, "steps-1", TWO) == handle
    assert cluster.end_of(handle) == Status(state="ended", exit_code=0)
    assert [len(starts(cluster.job, node)) for node in (0, 1)] == [1, 1]
    next_flow.cancel(handle, grace_seconds=1)
    assert next_flow.reattach("steps-1") is None
    assert not list(cluster.board.glob("steps-*"))


def test_an_agent_that_is_killed_takes_its_ranks_along_and_one_in_its_place_goes_on(cluster):
    handle = cluster.submit("time.sleep(60 if attempt == 1 and step == 3 else 0)")
    cluster.wait_for_starts()
    [at_node_1] = starts(cluster.job, 1)
    cluster.kill(1)
    for _ in moments(2):
        if not alive(at_node_1):
            break
    cluster.join(1)
    assert cluster.end_of(handle) == Status(state="ended", exit_code=0)
    assert [len(starts(cluster.job, node)) for node in (0, 1)] == [2, 2]
    [row] = findings(cluster.job)
    assert row["rule"] == "lost"
    assert "node 1" in row["evidence"]
    assert "was started anew" in row["evidence"]


def test_a_failure_on_one_node_ends_the_attempt_on_all(cluster):
    status = cluster.end_of(cluster.submit("if step == 2:\n    sys.exit(7) if mine == 'ranks-1' else time.sleep(60)"))
    assert status.exit_code != 0
    assert "node 1 failed: exit code 7. Not started again: it got no further than before" in status.reason


def test_told_to_stop_every_node_does_and_the_call_is_taken_off_the_board(cluster):
    handle = cluster.submit("time.sleep(0.5)")
    cluster.wait_for_starts()
    launcher = StaticNodes(cluster.board)
    launcher.cancel(handle, grace_seconds=20)
    assert not any(alive(pid) for node in (0, 1) for pid in starts(cluster.job, node))
    assert launcher.reattach("steps-1") is None
    assert launcher.status(handle).state == "lost"


def test_an_agent_told_to_stop_stops_the_job_with_85(cluster):
    handle = cluster.submit("time.sleep(0.5)")
    cluster.wait_for_starts()
    cluster.agents[0].send_signal(signal.SIGTERM)
    assert cluster.end_of(handle).exit_code == 85


def test_a_second_agent_of_one_node_is_refused(cluster):
    handle = cluster.submit("pass")
    assert cluster.end_of(handle).exit_code == 0  # both agents are at work
    command = [sys.executable, "-c", AGENT, str(cluster.board), "1"]
    second = subprocess.run(command, env=environment(cluster.tmp_path), capture_output=True, text=True, check=False)
    assert "expected to be the only agent of node 1" in second.stderr


def test_where_nobody_joined_a_job_waits_and_says_what_to_start(tmp_path):
    launcher = StaticNodes(tmp_path / "nodes")
    handle = launcher.submit("any", tmp_path, "steps-1", TWO)
    assert launcher.status(handle).state == "waiting"
    assert "python -m lifecycle join --node-rank 0" in launcher.status(handle).reason


def test_no_secret_is_posted(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "hunter2-hunter2")
    launcher = StaticNodes(tmp_path / "nodes")
    handle = launcher.submit("any", tmp_path, "steps-1", TWO)
    assert "hunter2" not in (tmp_path / "nodes" / handle.id / "call.json").read_text()


def test_a_call_that_cannot_begin_ends_and_keeps_no_later_one_waiting(tmp_path):
    """Its folder is gone: somebody removed the run. And what is no call is nobody's."""
    board = tmp_path / "nodes"
    (board / "forged.1").mkdir(parents=True)
    (board / "forged.1" / "call.json").write_text("[]")
    handle = StaticNodes(board).submit("any", tmp_path / "gone", "steps-1", Resources())
    assert [call.name for call in open_calls(board, 0)] == [handle.id]
    command = [sys.executable, "-c", AGENT.replace("serve()", "serve(once=True)"), str(board), "0"]
    subprocess.run(command, env=environment(tmp_path), check=True, capture_output=True, timeout=60)
    assert "node 0 could not begin (exit code 1)" in StaticNodes(board).status(handle).reason
    assert open_calls(board, 0) == []
