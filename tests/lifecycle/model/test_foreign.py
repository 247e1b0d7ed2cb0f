"""What a model from outside may not bring is refused by name, before a byte of it is read."""

import json
from pathlib import Path

import pytest

from lifecycle.errors import InputError
from lifecycle.model import foreign
from lifecycle.model.architecture import ModelConfig
from lifecycle.model.gpt2 import Gpt2Config

LLAMA = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
    "rope_theta": 130_000,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with nothing in it but what must be there."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    return folder


def test_a_folder_of_data_passes_with_its_notices(folder):
    for name in ("model.safetensors", "LICENSE", "README.md", "merges.txt", "chat_template.jinja"):
        (folder / name).write_bytes(b"")
    foreign.check_names(folder)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "model.pth", "x/optimizer.pkl", "modeling_evil.py", "a.SO", "w.npz"]
)
def test_what_can_run_code_is_refused_by_name_and_not_opened(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\x80\x04 a pickle")
    (folder / name).chmod(0)  # opening it would fail otherwise
    with pytest.raises(InputError, match=rf"found '{name}', which can run code\. Copy config\.json"):
        foreign.check_names(folder)


@pytest.mark.parametrize("name", ["model.onnx", "model.msgpack", "weights.h5", "no_suffix"])
def test_what_is_not_known_to_be_data_is_refused_too(folder, name):
    (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match=rf"found '{name}'"):
        foreign.check_names(folder)


@pytest.mark.parametrize("target", ["../secret.json", "/etc/passwd", "config.json"])
def test_a_link_is_refused_wherever_it_leads(folder, target):
    (folder.parent / "secret.json").write_text("{}")
    (folder / "generation_config.json").symlink_to(target)
    with pytest.raises(InputError, match=r"found the link 'generation_config\.json' to"):
        foreign.check_names(folder)
    (folder.parent / "link").symlink_to(folder)
    with pytest.raises(InputError, match="expected a folder or a file, found a link"):
        foreign.check_names(folder.parent / "link")


def test_a_folder_without_a_tokenizer_or_nothing_at_all_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"expected a tokenizer\.json, found none"):
        foreign.check_names(folder)
    with pytest.raises(InputError, match=r"found nothing\. Check base\.source"):
        foreign.check_names(folder / "elsewhere")
    with pytest.raises(InputError, match=r"expected a \.gguf file or a folder, found a \.json file"):
        foreign.check_names(folder / "config.json")


@pytest.mark.parametrize("place", ["{}", '{"deep": [{"er": {}}]}'])
def test_auto_map_is_refused_at_any_depth(folder, place):
    text = json.dumps({**LLAMA, "extra": json.loads(place.replace("{}", '{"auto_map": {"AutoModel": "x.Y"}}'))})
    (folder / "config.json").write_text(text)
    with pytest.raises(InputError, match="found 'auto_map', which names some"):
        foreign.read_config(folder)


@pytest.mark.parametrize("text", ["", "[1]", '{"a": ', "[" * 100_000, "\x80"])
def test_json_that_is_none_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(InputError, match="expected a JSON object"):
        foreign.read_config(folder)


def test_an_unknown_family_is_refused_with_the_known_ones(folder):
    (folder / "config.json").write_text(json.dumps({**LLAMA, "model_type": "mamba"}))
    with pytest.raises(InputError, match=r"known family \(gpt2, llama, mistral, qwen2, qwen3\), found 'mamba'"):
        foreign.read_config(folder)


def test_quantized_weights_are_refused(folder):
    (folder / "config.json").write_text(json.dumps({**LLAMA, "quantization_config": {"quant_method": "awq"}}))
    with pytest.raises(InputError, match=r"found them quantized \(awq\)"):
        foreign.read_config(folder)


def test_the_shape_of_a_known_model_has_its_published_number_of_parameters(folder):
    shape = foreign.shape_of(folder)
    assert isinstance(shape, ModelConfig)
    assert shape.rope_theta == 130_000
    assert shape.parameters(LLAMA["vocab_size"]) == 1_711_376_384, "SmolLM2-1.7B"
    gpt2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
    (folder / "config.json").write_text(json.dumps(gpt2))
    shape = foreign.shape_of(folder)
    assert isinstance(shape, Gpt2Config)
    assert shape.parameters(50_257, foreign.positions_of(gpt2)) == 124_439_808


@pytest.mark.parametrize("odd", [{"attention_bias": True}, {"head_dim": 128}, {"model_type": "qwen2"}])
def test_a_shape_whose_memory_is_not_planned_is_not_pretrained_further(folder, odd):
    (folder / "config.json").write_text(json.dumps({**LLAMA, **odd}))
    with pytest.raises(InputError, match="Fine-tune it as it is, or continue another base"):
        foreign.shape_of(folder)


def test_a_config_whose_shape_does_not_fit_together_is_refused(folder):
    (folder / "config.json").write_text(json.dumps(LLAMA | {"num_attention_heads": 3, "head_dim": None}))
    with pytest.raises(InputError, match="expected the shape of a llama"):
        foreign.shape_of(folder)


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_config_that_names_kernels_to_fetch_is_refused(folder, name):
    """transformers would load them from a hub and run them."""
    (folder / "config.json").write_text(json.dumps(LLAMA | {name: "somebody/kernels"}))
    with pytest.raises(InputError, match=f"found {name}='somebody/kernels', which names some"):
        foreign.read_config(folder)
    (folder / "config.json").write_text(json.dumps(LLAMA | {name: "sdpa"}))
    foreign.read_config(folder)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            {"hidden_act": "__import__"},
            r"expected hidden_act in config\.json to be one of silu, .*, found '__import__'",
        ),
        ({"hidden_size": "2048"}, r"a whole number from 1 on as hidden_size in config\.json, found '2048'"),
        ({"num_hidden_layers": True}, r"as num_hidden_layers in config\.json, found True"),
        ({"max_position_embeddings": None}, r"as max_position_embeddings in config\.json, found None"),
        ({"vocab_size": 0}, r"as vocab_size in config\.json, found 0"),
    ],
)
def test_a_config_without_a_size_or_with_an_activation_nobody_knows_is_refused(folder, change, found):
    foreign.read_config(folder)
    (folder / "config.json").write_text(json.dumps(LLAMA | change))
    with pytest.raises(InputError, match=found):
        foreign.read_config(folder)
