"""Shards of a stage as Prefect task runs, on engines chosen on the command line."""

import contextlib
import sqlite3

import pytest
from dask_cluster import DaskCluster

pytestmark = pytest.mark.slow


def states(store, name):
    """Of every task run with this name: the states it went through."""
    with contextlib.closing(sqlite3.connect(store / "prefect" / "prefect.db")) as database:
        rows = database.execute(
            "select run.id, state.name from task_run run join task_run_state state on state.task_run_id = run.id "
            "where run.name = ? order by state.timestamp",
            [name],
        ).fetchall()
    return [[state for run, state in rows if run == wanted] for wanted in dict.fromkeys(run for run, _ in rows)]


def tries(house):
    folder = house.store / "artifacts" / "corpus"
    return [len((folder / f"tries-{number}").read_text().splitlines()) for number in range(3)]


def test_every_shard_is_a_task_run_and_that_of_a_killed_process_is_tried_again(house, released):
    ended = house("prepare_data", "--set", "corpus.shards=3", "--engine", "processes", "--workers", "2")
    assert ended.code == 0, ended.text
    assert tries(house) == [1, 2, 1]
    store, _ = released  # whose server all houses share
    # Prefect may note "RolledBack" beside a try that failed; there is nothing to roll back.
    assert states(store, "shards 1 of 3")[-1][:3] == ["Pending", "Running", "Completed"]
    assert "Retrying" in states(store, "shards 2 of 3")[-1]
    assert "Completed" in states(store, "shards 2 of 3")[-1]


def test_the_same_flow_on_a_cluster_of_two_processes_one_of_them_killed(house, tmp_path):
    with DaskCluster(tmp_path) as dask:
        options = ["--engine", "dask", "--cluster", dask.address, "--workers", "2"]
        ended = house("prepare_data", "--set", "corpus.shards=3", *options)
    assert ended.code == 0, ended.text
    # The killed process takes along what it had done and nobody had fetched yet: that is done again too.
    assert tries(house)[1] == 2
    assert set(tries(house)) <= {1, 2}
