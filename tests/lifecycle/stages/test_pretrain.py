"""The light side of pretraining: what is refused before a worker starts, and what the worker is told."""

from pathlib import Path

import pytest

from lifecycle.artifacts import Tokenizer, TokenShards
from lifecycle.errors import ConfigError, ContractError
from lifecycle.model.zero import ZeroConfig
from lifecycle.sealing import StageConfig, fingerprint
from lifecycle.stages.pretrain import PretrainConfig, Steps, Tokens, pretrain


class Source(StageConfig):
    stage = "source"


def inputs(folder: Path, **shards: object) -> tuple[TokenShards, Tokenizer]:
    for name in ("tokenizer", "shards"):
        (folder / name).mkdir()
    protocol = {"vocab_size": 64, "protocol_digest": "p" * 64}
    tokenizer = Tokenizer(path=folder / "tokenizer", bos_id=0, pad_id=1, stop_id=2, **protocol).seal(Source())
    facts = {"max_seq_len": 16, "rows": 9, "validation_rows": 1, "tokens": 144, "dtype": "uint16"}
    facts |= {"tokens_by_source": {"a": 144}} | protocol | shards
    return TokenShards(path=folder / "shards", **facts).seal(Source(), tokenizer), tokenizer


def test_a_horizon_in_tokens_is_rounded_up_to_whole_steps():
    assert PretrainConfig(horizon=Tokens(tokens=1000), batch_rows=4).steps(max_seq_len=100) == 3
    assert PretrainConfig(horizon=Steps(steps=7)).steps(max_seq_len=100) == 7


def test_ranks_and_intervals_are_how_it_ran_and_stay_out_of_identity():
    one, two = PretrainConfig(ranks=1, save_every_steps=5), PretrainConfig(ranks=2, micro_batch_rows=1, threads=3)
    assert fingerprint(one, ()) == fingerprint(two, ())
    assert fingerprint(one, ()) != fingerprint(PretrainConfig(seed=1), ())


def test_shards_of_another_tokenizer_are_refused(tmp_path, out_dir):
    with pytest.raises(ContractError, match="chat protocols differ"):
        pretrain(PretrainConfig(), *inputs(tmp_path, protocol_digest="q" * 64), out_dir=out_dir)


def test_a_batch_that_does_not_divide_over_the_ranks_is_refused_before_anything_starts(tmp_path, out_dir):
    config = PretrainConfig(batch_rows=9, ranks=2)
    with pytest.raises(ConfigError, match="found 9 and 2 x 4"):
        pretrain(config, *inputs(tmp_path), out_dir=out_dir)
    assert list(out_dir.iterdir()) == []


def test_a_warm_up_longer_than_the_run_is_refused(tmp_path, out_dir):
    with pytest.raises(ConfigError, match="below the 10 steps of the run, found 20"):
        pretrain(PretrainConfig(horizon=Steps(steps=10)), *inputs(tmp_path), out_dir=out_dir)


def test_shards_with_nothing_held_out_are_refused(tmp_path, out_dir):
    with pytest.raises(ContractError, match="validation row"):
        pretrain(PretrainConfig(), *inputs(tmp_path, validation_rows=0), out_dir=out_dir)


def test_a_run_that_cannot_fit_is_refused_with_what_would_before_anything_starts(tmp_path, out_dir):
    config = PretrainConfig(batch_rows=4096, ranks=1, device_memory="1.3GiB", zero=ZeroConfig(bucket_elements=10_000))
    with pytest.raises(ConfigError, match=r"(?s)at most 0\.30 GiB.*This would fit: pretrain\.zero\.stage"):
        pretrain(config, *inputs(tmp_path), out_dir=out_dir)
    assert list(out_dir.iterdir()) == []


def test_the_memory_of_the_device_is_how_it_ran_and_stays_out_of_identity():
    plain = PretrainConfig()
    bounded = PretrainConfig(device_memory="80GiB", activation_checkpointing=True)
    assert fingerprint(plain, ()) == fingerprint(bounded, ())
