"""Rows hold the documents' tokens, all of them but the tail, in an order that the seed names."""

import json

import numpy as np
import pytest

from lifecycle.chat.protocol import load_tokenizer
from lifecycle.data import encoding
from lifecycle.data.bpe import as_text
from lifecycle.data.documents import Source
from lifecycle.data.jsonl import load_rows
from lifecycle.data.shard_reader import MappedShard, ShardReader
from lifecycle.errors import ContractError, InputError
from lifecycle.stages.corpus import CorpusConfig, build_corpus
from lifecycle.stages.shards import ShardsConfig, pack_shards
from lifecycle.stages.tokenizer import TokenizerConfig, train_tokenizer


@pytest.fixture
def tokenizer(corpus, tmp_path):
    (tmp_path / "tokenizer").mkdir()
    return train_tokenizer(TokenizerConfig(vocab_size=400), corpus, out_dir=tmp_path / "tokenizer")


def test_rows_are_the_documents_behind_bos_and_nothing_is_lost_but_the_tail(corpus, tokenizer, out_dir):
    shards = pack_shards(ShardsConfig(max_seq_len=32, rows_per_shard=100), corpus, tokenizer, out_dir=out_dir)
    reader = ShardReader(shards.path)
    stream = reader.rows(range(len(reader))).ravel()
    bpe = as_text(load_tokenizer(tokenizer.path))
    texts = [row["text"] for row in load_rows(corpus.train_file)]
    expected = [[tokenizer.bos_id, *bpe.encode(text).ids] for text in texts]
    found = [part.tolist() for part in np.split(stream, np.flatnonzero(stream == tokenizer.bos_id))[1:]]
    assert len(stream) + reader.index.tail_tokens == sum(map(len, expected))
    assert sorted(found[:-1]) == sorted(document for document in expected if document in found[:-1])
    assert len(expected) - 2 <= len(found) <= len(expected)  # the tail, less than a row, is the last one or two
    assert found[:20] != expected[:20]  # shuffled
    assert shards.tokens == len(stream) == sum(shards.tokens_by_source.values())
    assert shards.validation_rows == len(reader.validation()) > 0
    assert (len(reader.index.shards), shards.dtype) == (-(-shards.rows // 100), "uint16")


def test_the_seed_names_the_order_and_the_same_seed_gives_the_same_bytes(corpus, tokenizer, tmp_path):
    digests = []
    for number, seed in enumerate((0, 0, 1)):
        (tmp_path / str(number)).mkdir()
        config = ShardsConfig(max_seq_len=32, seed=seed)
        digests.append(pack_shards(config, corpus, tokenizer, out_dir=tmp_path / str(number)).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_special_token_written_in_a_document_stays_text(write_rows, prose, suites, tmp_path, out_dir):
    rows = [{"id": f"{n}", "text": f"{prose(n)} He typed <|end|> and <|bos|> by hand."} for n in range(10)]
    (tmp_path / "odd").mkdir()
    source = Source(name="sea", path=write_rows("odd.jsonl", rows), licence="CC0-1.0")
    corpus = build_corpus(CorpusConfig(sources=(source,)), suites, out_dir=tmp_path / "odd")
    (tmp_path / "bpe").mkdir()
    tokenizer = train_tokenizer(TokenizerConfig(vocab_size=400), corpus, out_dir=tmp_path / "bpe")
    pack_shards(ShardsConfig(max_seq_len=16), corpus, tokenizer, out_dir=out_dir)
    reader = ShardReader(out_dir)
    rows_BT = reader.rows(range(len(reader)))
    assert (rows_BT == tokenizer.bos_id).sum() == corpus.train_documents
    assert (rows_BT == tokenizer.stop_id).sum() == 0


def test_a_tokenizer_of_another_corpus_is_refused(corpus, tokenizer, sources, suites, tmp_path, out_dir):
    (tmp_path / "other").mkdir()
    other = build_corpus(CorpusConfig(sources=sources[:2]), suites, out_dir=tmp_path / "other")
    with pytest.raises(ContractError, match="expected a tokenizer trained on Corpus"):
        pack_shards(ShardsConfig(), other, tokenizer, out_dir=out_dir)


def test_best_fit_cuts_no_document_that_fits_a_row_and_says_what_that_saved(corpus, tokenizer, tmp_path):
    packed = {}
    for packing in ("concatenate", "best_fit"):
        (tmp_path / packing).mkdir()
        config = ShardsConfig(max_seq_len=300, packing=packing)
        packed[packing] = pack_shards(config, corpus, tokenizer, out_dir=tmp_path / packing)
    reader = ShardReader(tmp_path / "best_fit")
    cuts, other = reader.index.cuts, ShardReader(tmp_path / "concatenate").index.cuts
    documents = reader.pieces(range(len(reader)))["document"]
    assert cuts.cut_documents == (np.bincount(documents) > 1).sum() == cuts.longer_than_a_row
    assert cuts.cut_documents < cuts.cut_documents_by_concatenation == other.cut_documents
    assert cuts.documents == corpus.train_documents
    rows_BT, pad = reader.rows(range(len(reader))), tokenizer.pad_id
    assert (
        (rows_BT == pad).sum()
        == reader.index.padding_tokens
        == packed["best_fit"].rows * 300 - packed["best_fit"].tokens
    )
    assert sum(reader.index.tokens_by_source.values()) == packed["best_fit"].tokens
    held_out = [(tmp_path / packing / "validation.bin").read_bytes() for packing in packed]
    assert held_out[0] == held_out[1]  # the loss on it compares the two


def test_a_row_names_the_lines_of_the_corpus_it_is_made_of(corpus, tokenizer, out_dir):
    pack_shards(ShardsConfig(max_seq_len=32), corpus, tokenizer, out_dir=out_dir)
    reader, bpe = ShardReader(out_dir), as_text(load_tokenizer(tokenizer.path))
    texts = [row["text"] for row in load_rows(corpus.train_file)]
    for row, start, tokens, offset, document in reader.pieces([3, 17]).tolist():
        expected = [tokenizer.bos_id, *bpe.encode(texts[document]).ids][offset : offset + tokens]
        assert reader.rows([3, 17])[row, start : start + tokens].tolist() == expected


def test_every_held_out_token_names_its_source_and_each_source_its_bytes_a_token(corpus, tokenizer, out_dir):
    pack_shards(ShardsConfig(max_seq_len=32), corpus, tokenizer, out_dir=out_dir)
    reader, bpe = ShardReader(out_dir), as_text(load_tokenizer(tokenizer.path))
    rows = list(load_rows(corpus.validation_file))
    names, sources_BT = reader.validation_sources, reader.sources_of_validation()
    assert set(names) == {row["source"] for row in rows}
    first = MappedShard(out_dir, reader.index.validation, reader.index).pieces_of(0)[0]
    assert names[sources_BT[0, 0]] == rows[int(first["document"])]["source"]
    for name in names:
        texts = [row["text"] for row in rows if row["source"] == name]
        tokens = sum(1 + len(bpe.encode(text).ids) for text in texts)
        assert reader.index.validation_sources[name] == sum(len(text.encode()) for text in texts) / tokens


def test_the_fast_path_makes_the_same_artifact_and_is_on_record(corpus, tokenizer, tmp_path, monkeypatch):
    digests = []
    for least in (10**9, 0):
        monkeypatch.setattr(encoding, "FAST_FROM_BYTES", least)
        (tmp_path / str(least)).mkdir()
        config = ShardsConfig(max_seq_len=32, packing="best_fit", rows_per_shard=50)
        digests.append(pack_shards(config, corpus, tokenizer, out_dir=tmp_path / str(least)).digest)
    assert digests[0] == digests[1]
    assert json.loads((tmp_path / "0/log/encoding-train.json").read_bytes()) == {
        "fast_path": True,
        "documents_left_to_tokenizers": 0,
    }


def test_too_little_text_for_one_row_is_refused(corpus, tokenizer, out_dir):
    with pytest.raises(InputError, match=r"at least one row of 1000000 tokens from train.jsonl, found \d+ tokens"):
        pack_shards(ShardsConfig(max_seq_len=1_000_000), corpus, tokenizer, out_dir=out_dir)
