"""The preference stage: what it refuses at once, and a whole run in a worker of its own."""

import pytest

from lifecycle.errors import ContractError
from lifecycle.stages.preference import PreferenceConfig, align


def test_only_an_sft_checkpoint_is_aligned(base, comparisons, out_dir):
    with pytest.raises(ContractError, match="expected a checkpoint with role sft, found 'base'"):
        align(PreferenceConfig(), base, comparisons, out_dir=out_dir)
    assert not list(out_dir.iterdir())


@pytest.mark.slow
def test_a_run_ends_as_a_sealed_checkpoint(sft, comparisons, tmp_path):
    config = PreferenceConfig(batch_pairs=8, learning_rate=1e-3, threads=1)
    made = align(config, sft, comparisons, out_dir=tmp_path / "out")
    assert (made.role, made.steps, made.protocol_digest) == ("preference", 4, sft.protocol_digest)
    assert made.manifest.inputs[0].digest == sft.digest
