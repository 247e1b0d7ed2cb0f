"""The reference is computed once, kept with digests, and held against the model that is about to be trained."""

import pytest
import torch
from safetensors.torch import save_file

from lifecycle.errors import ContractError
from lifecycle.training import reference
from lifecycle.training.pairs import Asked

ASKED = [Asked([n, 2, 3], ([4, 5], [6])) for n in range(40)]


class Model:
    """Counts how often it is asked; `worth` is what it gives a token."""

    def __init__(self, worth: float = -1.0) -> None:
        self.worth, self.asked = worth, 0

    def __call__(self, asked):
        self.asked += len(asked)
        return torch.tensor([[self.worth * len(a) + one.prompt_ids[0] for a in one.answers] for one in asked])


def refer(model, file, key="k"):
    return reference.reference(ASKED, model, file, key, precision="fp32")


def test_it_is_computed_once_and_read_after(tmp_path):
    first, model = Model(), Model()
    values, was_read = refer(first, file := tmp_path / "store" / "r.safetensors")
    assert (was_read, first.asked, values[7].tolist()) == (False, 40, [5.0, 6.0])
    reference.seal(file, "k", values)
    again, was_read = refer(model, file)
    assert was_read
    assert torch.equal(again, values)
    assert model.asked == reference.PROVEN


def test_a_reference_that_is_another_model_is_refused_by_name(tmp_path):
    values, _ = refer(Model(-1.4), file := tmp_path / "r.safetensors")
    reference.seal(file, "k", values)
    with pytest.raises(ContractError, match=r"reference_is_not_the_start: .* found a difference of 0.4"):
        refer(Model(), file)


def test_a_flipped_value_another_key_and_half_a_file_are_refused(tmp_path):
    values, _ = refer(Model(), file := tmp_path / "r.safetensors")
    reference.seal(file, "k", values)
    with pytest.raises(ContractError, match=r"as they were sealed, found others \(k\)"):
        refer(Model(), file, key="other")
    save_file({"log_probs": values + 1}, file, {"key": "k", "sha256": "0"})
    with pytest.raises(ContractError, match="as they were sealed"):
        refer(Model(), file)
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ContractError, match="expected sealed log-probabilities, found"):
        refer(Model(), file)


def test_a_key_names_the_model_how_it_computes_and_every_id():
    keys = {
        reference.key_of(ASKED, "digest", "bf16"),
        reference.key_of(ASKED, "digest", "fp32"),
        reference.key_of(ASKED, "other", "bf16"),
        reference.key_of([*ASKED[:-1], Asked([39, 2, 3], ([4, 5], [7]))], "digest", "bf16"),
    }
    assert len(keys) == 4
