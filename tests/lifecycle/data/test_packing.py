"""The order of training rows, and the refusal of shards that are not what the index says."""

import numpy as np
import pytest

from lifecycle.data.packing import INDEX, Index, RowWriter, ShardReader
from lifecycle.errors import DamagedArtifact


def write(folder, documents: list[list[int]], rows_per_shard: int = 2) -> RowWriter:
    """Rows of four ids, and one validation row."""
    options = {"max_seq_len": 4, "dtype": "uint16"}
    train = RowWriter(folder, (f"train-{n}.bin" for n in range(999)), rows_per_shard=rows_per_shard, **options)
    train.write(documents)
    validation = RowWriter(folder, iter(["validation.bin"]), rows_per_shard=99, **options)
    validation.write([[7, 7, 7, 7]])
    index = Index(
        max_seq_len=4,
        dtype="uint16",
        shards=train.close(),
        validation=validation.close()[0],
        tokens_by_source={},
        tail_tokens=len(train.tail),
        validation_tail_tokens=0,
    )
    (folder / INDEX).write_text(index.model_dump_json())
    return train


def test_documents_are_concatenated_cut_into_rows_and_only_the_tail_is_left(tmp_path):
    writer = write(tmp_path, [[0, 1, 2], [0, 3], [0, 4, 5, 6, 7, 8, 9, 10, 11, 12], [0]])
    reader = ShardReader(tmp_path)
    assert [shard.rows for shard in reader.index.shards] == [2, 2]
    assert reader.rows(range(4)).tolist() == [[0, 1, 2, 0], [3, 0, 4, 5], [6, 7, 8, 9], [10, 11, 12, 0]]
    assert len(writer.tail) == 0
    assert reader.validation().tolist() == [[7, 7, 7, 7]]


def test_how_rows_are_spread_over_files_does_not_change_them(tmp_path):
    documents = [[0, *range(1, length)] for length in range(1, 30)]
    rows = []
    for per_shard in (1, 3, 1000):
        folder = tmp_path / str(per_shard)
        folder.mkdir()
        writer = write(folder, documents, per_shard)
        reader = ShardReader(folder)
        rows.append(reader.rows(range(len(reader))).tolist())
        assert len(reader) * 4 + len(writer.tail) == sum(map(len, documents))
    assert rows[0] == rows[1] == rows[2]


def test_each_epoch_is_a_permutation_of_its_own_and_any_step_can_be_asked_for(tmp_path):
    write(tmp_path, [[n] * 4 for n in range(10)])
    reader = ShardReader(tmp_path)
    stream = np.concatenate([reader.rows_for(step, 4, seed=3) for step in range(5)])  # two epochs of ten rows
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert list(stream[:10]) != list(stream[10:])
    assert list(reader.rows_for(2, 4, seed=3)) == list(stream[8:12])  # over the end of an epoch, nothing replayed
    assert list(reader.rows_for(0, 20, seed=3)) == list(stream)  # the same order in another batch size
    assert list(reader.rows_for(0, 10, seed=4)) != list(stream[:10])


def test_ranks_share_a_batch_without_overlap(tmp_path):
    write(tmp_path, [[n] * 4 for n in range(16)])
    batch = ShardReader(tmp_path).rows_for(1, 8, seed=0)
    assert sorted(np.concatenate([batch[rank::2] for rank in range(2)])) == sorted(batch)


def test_a_shard_of_another_size_a_missing_one_and_one_listed_twice_are_refused(tmp_path):
    write(tmp_path, [[n] * 4 for n in range(4)])
    shard = tmp_path / "train-1.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(DamagedArtifact, match=r"train-1.bin: expected 16 bytes \(2 rows of 4 uint16\), found 14"):
        ShardReader(tmp_path)
    shard.unlink()
    with pytest.raises(DamagedArtifact, match=r"train-1.bin: expected 16 bytes .* found no file"):
        ShardReader(tmp_path)
    index = Index.model_validate_json((tmp_path / INDEX).read_bytes())
    (tmp_path / INDEX).write_text(index.model_copy(update={"shards": [index.shards[0]] * 2}).model_dump_json())
    with pytest.raises(DamagedArtifact, match="a shard is listed twice"):
        ShardReader(tmp_path)
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(DamagedArtifact, match=r"no readable index\.json"):
        ShardReader(tmp_path)


def test_a_row_that_is_not_there_is_refused(tmp_path):
    write(tmp_path, [[1, 2, 3, 4]])
    with pytest.raises(IndexError, match="expected rows 0 to 0"):
        ShardReader(tmp_path).rows([1])
