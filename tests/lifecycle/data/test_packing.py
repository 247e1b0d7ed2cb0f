"""Rows on disk: what they hold, in which order training reads them, and the refusal of what changed after packing."""

from math import log

import numpy as np
import pytest

from lifecycle.data.packing import INDEX, SOURCES, Index, write_sources
from lifecycle.data.shard_reader import ShardReader
from lifecycle.errors import DamagedArtifact

VALIDATION = [[7, 7, 7, 7]]


def test_documents_are_concatenated_cut_into_rows_and_only_the_tail_is_left(made_shards, tmp_path):
    writer = made_shards(tmp_path, [[0, 1, 2], [0, 3], [0, 4, 5, 6, 7, 8, 9, 10, 11, 12], [0, 1]], VALIDATION)
    reader = ShardReader(tmp_path)
    assert [shard.rows for shard in reader.index.shards] == [2, 2]
    assert reader.rows(range(4)).tolist() == [[0, 1, 2, 0], [3, 0, 4, 5], [6, 7, 8, 9], [10, 11, 12, 0]]
    assert writer.packing.tail.ids.tolist() == [1]
    assert reader.validation().tolist() == [[7, 7, 7, 7]]


def test_every_stretch_of_a_document_is_on_record(made_shards, tmp_path):
    made_shards(tmp_path, [[0, 1, 2], [0, 3], [0, 4, 5, 6, 7, 8, 9, 10, 11, 12], [0]], VALIDATION)
    reader = ShardReader(tmp_path)
    #                                          row, start, tokens, offset in document, document
    assert reader.pieces([3, 1]).tolist() == [(0, 0, 3, 7, 2), (0, 3, 1, 0, 3), (1, 0, 1, 1, 1), (1, 1, 3, 0, 2)]
    segments_BT, positions_BT = reader.segments([0, 1, 3])
    assert segments_BT.tolist() == [[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]
    assert positions_BT.tolist() == [[0, 1, 2, 0], [0, 0, 1, 2], [0, 1, 2, 0]]


def test_padding_belongs_to_no_document(made_shards, tmp_path):
    made_shards(tmp_path, [[0, 1], [0, 3, 4], [0, 5, 6, 7, 8]], VALIDATION, best_fit=True)
    reader = ShardReader(tmp_path)
    assert reader.rows(range(3)).tolist() == [[0, 5, 6, 7], [0, 3, 4, 8], [0, 1, 63, 63]]
    assert reader.segments(range(3))[0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, -1, -1]]
    assert reader.index.padding_tokens == 2


@pytest.mark.parametrize("best_fit", [False, True])
def test_how_rows_are_spread_over_files_does_not_change_them(made_shards, tmp_path, best_fit):
    documents = [[0, *range(1, length)] for length in range(1, 30)]
    found = []
    for per_shard in (1, 3, 1000):
        folder = tmp_path / str(per_shard)
        folder.mkdir()
        made_shards(folder, documents, VALIDATION, rows_per_shard=per_shard, best_fit=best_fit)
        reader = ShardReader(folder)
        found.append((reader.rows(range(len(reader))).tolist(), reader.pieces(range(len(reader))).tolist()))
        index = reader.index
        assert len(reader) * 4 + index.tail_tokens - index.padding_tokens == sum(map(len, documents))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("best_fit", [False, True])
def test_pieces_put_together_are_the_documents(made_shards, tmp_path, best_fit):
    documents = [[100 * n + k for k in range(1 + n * 7 % 11)] for n in range(40)]
    writer = made_shards(tmp_path, documents, VALIDATION, best_fit=best_fit)
    reader = ShardReader(tmp_path)
    rows_BT = reader.rows(range(len(reader)))
    found: dict[int, dict[int, list[int]]] = {}
    for row, start, tokens, offset, document in reader.pieces(range(len(reader))).tolist():
        found.setdefault(document, {})[offset] = rows_BT[row, start : start + tokens].tolist()
    together = {name: [token for at in sorted(parts) for token in parts[at]] for name, parts in found.items()}
    lost = set(writer.packing.tail.documents.tolist())
    assert all(together[name] == document for name, document in enumerate(documents) if name not in lost)
    assert not (lost and best_fit)


def test_the_entropy_of_token_frequencies_leaves_padding_out(made_shards, tmp_path):
    made_shards(tmp_path, [[0, 1, 2, 3, 0, 1]], VALIDATION, best_fit=True)
    reader = ShardReader(tmp_path)
    assert reader.rows(range(2)).tolist() == [[0, 1, 2, 3], [0, 1, 63, 63]]
    assert reader.unigram_nats() == pytest.approx(2 / 3 * log(3) + 1 / 3 * log(6))


def test_sources_of_held_out_text_that_changed_or_are_gone_are_refused(made_shards, tmp_path):
    made_shards(tmp_path, [[0, 1, 2, 3]], VALIDATION)
    digest = write_sources(tmp_path, np.array([0]))
    settings = {"validation_sources": {"sea": 4.0}, "validation_sources_sha256": digest}
    index = ShardReader(tmp_path).index.model_copy(update=settings)
    (tmp_path / INDEX).write_text(index.model_dump_json())
    assert ShardReader(tmp_path).sources_of_validation().tolist() == [[0, 0, 0, 0]]
    assert ShardReader(tmp_path).bits_per_byte({"sea": log(2)}) == {"sea": pytest.approx(0.25)}
    for damage in (lambda file: file.write_bytes(b"\1\0"), lambda file: file.unlink()):
        damage(tmp_path / SOURCES)
        with pytest.raises(DamagedArtifact, match=r"validation.sources: expected sha256 .* rerun the shards stage"):
            ShardReader(tmp_path).sources_of_validation()


def test_each_epoch_is_a_permutation_of_its_own_and_any_step_can_be_asked_for(made_shards, tmp_path):
    made_shards(tmp_path, [[n] * 4 for n in range(10)], VALIDATION)
    reader = ShardReader(tmp_path)
    stream = np.concatenate([reader.rows_for(step, 4, seed=3) for step in range(5)])  # two epochs of ten rows
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert list(stream[:10]) != list(stream[10:])
    assert list(reader.rows_for(2, 4, seed=3)) == list(stream[8:12])  # over the end of an epoch, nothing replayed
    assert list(reader.rows_for(0, 20, seed=3)) == list(stream)  # the same order in another batch size
    assert list(reader.rows_for(0, 10, seed=4)) != list(stream[:10])


def test_a_shard_of_another_size_a_missing_one_and_one_listed_twice_are_refused(made_shards, tmp_path):
    made_shards(tmp_path, [[n] * 4 for n in range(4)], VALIDATION)
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


@pytest.mark.parametrize("name", ["train-1.bin", "train-1.crc32", "train-1.pieces", "validation.bin"])
def test_one_flipped_bit_is_refused_where_it_is_read_and_nowhere_else(made_shards, tmp_path, name):
    made_shards(tmp_path, [[n] * 4 for n in range(4)], VALIDATION)
    content = bytearray((tmp_path / name).read_bytes())
    content[3] ^= 1  # of the shard's first row
    (tmp_path / name).write_bytes(content)
    reader = ShardReader(tmp_path)
    assert reader.rows([0, 1]).tolist() == [[0] * 4, [1] * 4]
    with pytest.raises(DamagedArtifact, match=f"{name}: .* changed after packing; rerun the shards stage"):
        (reader.rows([2]), reader.pieces([2]), reader.validation())


def test_two_shards_that_changed_places_are_refused(made_shards, tmp_path):
    made_shards(tmp_path, [[n] * 4 for n in range(4)], VALIDATION)
    (tmp_path / "train-0.bin").rename(tmp_path / "other")
    (tmp_path / "train-1.bin").rename(tmp_path / "train-0.bin")
    (tmp_path / "other").rename(tmp_path / "train-1.bin")
    with pytest.raises(DamagedArtifact, match=r"train-0\.bin: row 0 does not have the checksum"):
        ShardReader(tmp_path).rows([0])


def test_a_row_that_is_not_there_is_refused(made_shards, tmp_path):
    made_shards(tmp_path, [[1, 2, 3, 4]], VALIDATION)
    with pytest.raises(IndexError, match="expected rows 0 to 0"):
        ShardReader(tmp_path).rows([1])
