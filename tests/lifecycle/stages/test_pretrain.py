"""The light side of pretraining: what is refused before a worker starts, and what the worker is told."""

import json
from pathlib import Path

import pytest

from lifecycle.artifacts import Checkpoint, Tokenizer, TokenShards
from lifecycle.errors import ConfigError, ContractError, InputError
from lifecycle.launch import Launch
from lifecycle.model.families import OfTheBase
from lifecycle.model.machine import Memory
from lifecycle.model.memory import peak
from lifecycle.model.zero import ZeroConfig
from lifecycle.sealing import StageConfig, fingerprint
from lifecycle.stages.pretrain import PretrainConfig, Steps, Tokens, memory_run, pretrain
from lifecycle.training.watchdog import WatchdogRules


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


def test_a_warm_up_is_steps_or_tokens():
    assert PretrainConfig(warmup_steps=7).warmup(max_seq_len=100) == 7
    config = PretrainConfig.model_validate({"batch_rows": 4, "warmup_steps": {"kind": "tokens", "tokens": 1000}})
    assert config.warmup(max_seq_len=100) == 3


def test_what_compiles_layers_cannot_wait_for_their_parameters(tmp_path):
    config = PretrainConfig(compile=True, zero=ZeroConfig(stage=3))
    with pytest.raises(ConfigError, match="compile with ZeRO 0, 1 or 2, found stage 3"):
        pretrain(config, *inputs(tmp_path), out_dir=tmp_path / "out")


def test_a_batch_is_shared_out_to_the_ranks_of_all_nodes():
    config = PretrainConfig(batch_rows=16, ranks=4, launch=Launch(launcher="nodes", nodes=2))
    assert (config.world_size, config.rows_at_once) == (8, 2)
    assert fingerprint(config, ()) == fingerprint(PretrainConfig(batch_rows=16), ())


def test_ranks_and_intervals_are_how_it_ran_and_stay_out_of_identity():
    one, two = PretrainConfig(ranks=1, save_every_steps=5), PretrainConfig(ranks=2, micro_batch_rows=1, threads=3)
    assert fingerprint(one, ()) == fingerprint(two, ())
    assert fingerprint(one, ()) != fingerprint(PretrainConfig(seed=1), ())


def test_how_a_run_is_spread_and_when_it_gives_up_stay_out_of_identity():
    plain = fingerprint(PretrainConfig(), ())
    assert fingerprint(PretrainConfig(zero=ZeroConfig(stage=3), reshard=True, keep_best=False), ()) == plain
    patient = {"divergence_nats": 9, "plateau_abort_share": 1, "max_rollbacks": 9, "slow_share": 0.1}
    assert fingerprint(PretrainConfig(watchdog=WatchdogRules(**patient)), ()) == plain
    for chosen in ("history_steps", "outlier_deviations", "outlier_nats", "plateau_warn_share", "validation_rise"):
        other = WatchdogRules(**{chosen: getattr(WatchdogRules(), chosen) * 2})
        assert fingerprint(PretrainConfig(watchdog=other), ()) != plain


@pytest.mark.parametrize(("device", "stage"), [("cpu", 1), ("cuda", 0)])
def test_fp16_is_refused_where_it_cannot_work(tmp_path, out_dir, monkeypatch, device, stage):
    monkeypatch.setattr("lifecycle.stages.pretrain.memory_of_a_rank", lambda ranks: Memory(80 * 2**30, device))
    config = PretrainConfig(precision="fp16", zero=ZeroConfig(stage=stage))
    with pytest.raises(ConfigError, match=f"GPUs and with ZeRO 1, 2 or 3.*found {device} and stage {stage}. Use bf16"):
        pretrain(config, *inputs(tmp_path), out_dir=out_dir)


def test_a_cpu_has_no_other_memory_to_offload_to():
    offloaded = PretrainConfig(zero=ZeroConfig(stage=3, offload_optimizer=True, offload_parameters=True))
    here, there = (
        peak(memory_run(offloaded, max_seq_len=128, vocab_size=32_000, device=device)) for device in ("cpu", "cuda")
    )
    assert here.optimizer > 0 == there.optimizer


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


LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "vocab_size": 64,
}


def base_of(folder: Path, *, protocol: str = "p", role: str = "base", **config: object) -> Checkpoint:
    """A base of which there is only what the light side reads."""
    folder = folder / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA | config))
    sizes = {"parameters": 9, "max_seq_len": 16, "steps": 0, "tokens_seen": 0, "final_loss": 4.0}
    return Checkpoint(path=folder, role=role, protocol_digest=protocol * 64, **sizes).seal(Source())


GOES_ON = PretrainConfig(model=OfTheBase())


@pytest.mark.parametrize("config", [PretrainConfig(), GOES_ON])
def test_a_base_and_a_shape_of_the_base_come_together_or_not_at_all(tmp_path, out_dir, config):
    base = base_of(tmp_path) if config is not GOES_ON else None
    with pytest.raises(ConfigError, match="Set both or neither: a shape has one home"):
        pretrain(config, *inputs(tmp_path), base, out_dir=out_dir)


def test_a_base_that_speaks_another_protocol_is_refused(tmp_path, out_dir):
    with pytest.raises(ContractError, match="chat protocols differ"):
        pretrain(GOES_ON, *inputs(tmp_path), base_of(tmp_path, protocol="q"), out_dir=out_dir)


def test_a_fine_tuned_checkpoint_is_no_base_to_go_on_from(tmp_path, out_dir):
    with pytest.raises(ContractError, match="expected a checkpoint with role base, found 'sft'"):
        pretrain(GOES_ON, *inputs(tmp_path), base_of(tmp_path, role="sft"), out_dir=out_dir)


def test_rows_longer_than_the_bases_positions_are_refused(tmp_path, out_dir):
    with pytest.raises(ContractError, match="at most the base's 8 positions, found 16"):
        pretrain(GOES_ON, *inputs(tmp_path), base_of(tmp_path, max_position_embeddings=8), out_dir=out_dir)


def test_a_vocabulary_larger_than_the_bases_is_refused(tmp_path, out_dir):
    with pytest.raises(ContractError, match="expected ids below the base's 60, found 64"):
        pretrain(GOES_ON, *inputs(tmp_path), base_of(tmp_path, vocab_size=60), out_dir=out_dir)


def test_a_family_whose_memory_is_not_planned_is_not_gone_on_with(tmp_path, out_dir):
    with pytest.raises(InputError, match="expected a base of family gpt2 or llama to go on pretraining"):
        pretrain(GOES_ON, *inputs(tmp_path), base_of(tmp_path, model_type="qwen2"), out_dir=out_dir)
