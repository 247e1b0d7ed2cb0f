"""Ranges of sorted runs against sorting everything."""

import numpy as np
import pytest

from lifecycle.data.runs import find_runs, ranges, write_run


@pytest.mark.parametrize("max_rows", [1, 7, 1000])
def test_ranges_cover_every_row_once_in_order_and_within_bounds(tmp_path, max_rows):
    draw = np.random.default_rng(0)
    everything = []
    for number, size in enumerate((0, 5, 40)):
        keys = np.sort(draw.choice(np.array([3, 9, 2**40, 2**64 - 1], np.uint64), size))
        write_run(tmp_path / f"{number:06}.run", keys, np.arange(size), np.uint32)
        everything += keys.tolist()
    seen = []
    for found in ranges(find_runs(tmp_path, np.uint32), max_rows=max_rows):
        keys = [int(key) for _, keys, _ in found.parts() for key in keys]
        assert len(keys) == found.rows
        assert found.rows <= max_rows or (found.is_single_key and len(set(keys)) == 1)
        assert not seen or min(keys) > max(seen)
        seen += keys
    assert sorted(seen) == sorted(everything)


def test_a_worker_that_is_late_does_not_put_a_folder_back_that_was_sealed_without_it(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_run(tmp_path / "scratch" / "band-000" / "000000.run", np.arange(1), np.arange(1))
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_written_again_replaces_the_first(tmp_path):
    for values in ([1, 2, 3], [4]):
        write_run(tmp_path / "000000.run", np.arange(len(values)), np.array(values))
    (run,) = find_runs(tmp_path)
    assert run.values().tolist() == [4]
    assert [path.name for path in tmp_path.iterdir()] == ["000000.run"]
