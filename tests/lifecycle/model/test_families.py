"""A model's settings say its family; without one they are Llama's, and its identity is what it was."""

import pytest
from pydantic import TypeAdapter, ValidationError

from lifecycle.model.architecture import ModelConfig
from lifecycle.model.families import Model
from lifecycle.model.gpt2 import Gpt2Config
from lifecycle.sealing import canonical

READ = TypeAdapter(Model).validate_python


def test_the_family_decides_which_settings_there_are():
    assert READ({"layers": 2}) == ModelConfig(layers=2)
    assert READ({"family": "gpt2", "layers": 2}) == Gpt2Config(layers=2)
    assert READ(Gpt2Config().model_dump()) == Gpt2Config()
    with pytest.raises(ValidationError, match="kv_heads"):
        READ({"family": "gpt2", "kv_heads": 2})
    with pytest.raises(ValidationError, match="mamba"):
        READ({"family": "mamba"})


def test_naming_the_family_changed_no_identity_of_a_llama():
    assert "family" not in canonical(ModelConfig())
    assert canonical(Gpt2Config())["family"] == "gpt2"
