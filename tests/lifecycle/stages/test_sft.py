"""The SFT stage: what it refuses at once, and a whole run in a worker of its own."""

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from lifecycle.errors import ContractError
from lifecycle.sealing import fingerprint
from lifecycle.stages.sft import SftConfig, fine_tune


def test_only_a_base_checkpoint_is_fine_tuned(sft, demonstrations, out_dir):
    with pytest.raises(ContractError, match="expected a checkpoint with role base, found 'sft'"):
        fine_tune(SftConfig(), sft, demonstrations, out_dir=out_dir)
    assert not list(out_dir.iterdir())


def test_how_it_ran_is_no_part_of_identity(base, demonstrations):
    same = SftConfig(threads=1, ranks=2, micro_batch_rows=4, log_every_steps=1, recompute_activations=True)
    assert fingerprint(same, [base, demonstrations]) == fingerprint(SftConfig(), [base, demonstrations])
    assert fingerprint(SftConfig(epochs=2), [base, demonstrations]) != fingerprint(SftConfig(), [base, demonstrations])


@pytest.mark.slow
def test_a_run_ends_as_a_sealed_checkpoint_and_a_second_one_has_its_digest(base, demonstrations, tmp_path):
    config = SftConfig(batch_rows=16, learning_rate=1e-2, threads=1)
    made = [fine_tune(config, base, demonstrations, out_dir=tmp_path / name) for name in ("a", "b")]
    assert made[0].role == "sft"
    assert made[0].protocol_digest == base.protocol_digest
    assert made[0].steps == 3
    assert made[0].digest == made[1].digest
    assert not (tmp_path / "a" / "scratch").exists()


@pytest.mark.slow
def test_two_ranks_give_the_loss_and_the_weights_of_one_also_where_they_share_out_their_state(
    base, demonstrations, tmp_path
):
    """Plain data parallelism and ZeRO-2: gradients are summed in another order, and nothing else."""
    settings = {"batch_rows": 16, "learning_rate": 1e-3, "precision": "fp32", "threads": 1}
    one = fine_tune(SftConfig(**settings), base, demonstrations, out_dir=tmp_path / "one")
    expected = load_file(one.path / "model.safetensors")
    for zero in (0, 2):
        config = SftConfig(**settings, ranks=2, zero=zero)
        two = fine_tune(config, base, demonstrations, out_dir=tmp_path / f"zero-{zero}")
        assert two.tokens_seen == one.tokens_seen
        assert two.final_loss == pytest.approx(one.final_loss, abs=2e-6)
        for name, weight in load_file(two.path / "model.safetensors").items():
            torch.testing.assert_close(weight, expected[name], atol=1e-4, rtol=0)


def test_state_is_shared_out_among_ranks_only():
    with pytest.raises(ValidationError, match="zero=2 shares state out among ranks, found none"):
        SftConfig(zero=2)
