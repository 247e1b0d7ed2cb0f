"""Work is done once, whatever kills it, and by however many ranks."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread

import pytest

from lifecycle.evaluation.journal import Alone, Journal

BATCHES = [[1, 2], [3], [4, 5, 6]]


class Squares:
    """The work: squares, counted; it can be told to die at a batch."""

    def __init__(self, dies_at=None):
        self.done, self.dies_at = [], dies_at

    def __call__(self, batch):
        if self.dies_at in batch:
            raise KeyboardInterrupt
        self.done.append(list(batch))
        return [number**2 for number in batch]


def run(journal, work, batches=BATCHES, settings="squares"):
    with ThreadPoolExecutor(1) as pool:
        return journal.run(batches, work, settings=settings, pool=pool, done=lambda finished: None)


def test_results_come_back_flat_and_in_order(tmp_path):
    assert run(Journal(tmp_path, Alone()), Squares()) == [1, 4, 9, 16, 25, 36]


def test_what_was_done_before_a_kill_is_not_done_again(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Journal(tmp_path, Alone()), Squares(dies_at=4))
    again = Squares()
    assert run(Journal(tmp_path, Alone()), again) == [1, 4, 9, 16, 25, 36]
    assert again.done == [[4, 5, 6]]


@pytest.mark.parametrize("torn", [b'{"key": "ab', b"\x00\x00\x00", b"[1]\n", b"{}\n"])
def test_a_torn_line_counts_for_nothing(tmp_path, torn):
    run(Journal(tmp_path, Alone()), Squares())
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(whole[0] + whole[1] + torn)
    again = Squares()
    assert run(Journal(tmp_path, Alone()), again) == [1, 4, 9, 16, 25, 36]
    assert again.done == [[4, 5, 6]]


def test_another_question_about_the_same_batch_is_asked(tmp_path):
    journal = Journal(tmp_path, Alone())
    run(journal, Squares())
    other = Squares()
    run(journal, other, settings="other squares")
    assert other.done == BATCHES


def test_ranks_share_the_batches_and_all_know_every_result(tmp_path):
    meeting, works, found = Barrier(2), [Squares(), Squares()], {}

    class Rank:
        ranks = 2

        def __init__(self, rank):
            self.rank = rank

        def wait(self):
            meeting.wait(10)

    def one(rank):
        journal = Journal(tmp_path, Rank(rank))
        found[rank] = [run(journal, works[rank]), run(journal, works[rank], [[7], [8]])]

    threads = [Thread(target=one, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found[0] == found[1] == [[1, 4, 9, 16, 25, 36], [49, 64]]
    assert [work.done for work in works] == [[[1, 2], [4, 5, 6], [7]], [[3], [8]]]
