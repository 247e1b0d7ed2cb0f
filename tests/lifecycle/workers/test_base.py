"""A foreign base becomes ours whole, weights, ids and template as they were; or it is refused by a tensor's name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from foreign_base import CHATML, SHAPES, write_base, write_gguf
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lifecycle.chat import golden
from lifecycle.chat.protocol import protocol_of
from lifecycle.chat.render import load_renderer
from lifecycle.errors import ContractError, InputError
from lifecycle.stages.base import Adopted, BaseConfig, BaseJob
from lifecycle.workers import base as worker
from lifecycle.workers.job import Recorder

pytestmark = pytest.mark.filterwarnings("ignore")


def adopt(source: Path, out_dir: Path, **settings) -> Adopted:
    out_dir.mkdir(exist_ok=True)
    config = BaseConfig(source=source, origin="made by this test", licence="CC0-1.0", **settings)
    return worker.adopt(BaseJob(out_dir=out_dir, scratch_dir=out_dir / "scratch", config=config), Recorder(out_dir))


def logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(torch.arange(40)[None]).logits


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Replace, add or take away tensors of a folder's weight file."""
    held = {**load_file(folder / "model.safetensors"), **tensors}
    save_file({k: v for k, v in held.items() if v is not None}, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return write_base(tmp_path_factory.mktemp("foreign") / "llama")


@pytest.fixture
def foreign(made, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "foreign"))


@pytest.mark.parametrize("family", SHAPES)
def test_every_family_answers_as_it_did_and_keeps_its_protocol(tmp_path, family):
    source = write_base(tmp_path / "source", family)
    found = adopt(source, out := tmp_path / "out")
    assert torch.equal(logits(out), logits(source))
    assert found.parameters == AutoModelForCausalLM.from_pretrained(source).num_parameters()
    assert found.max_seq_len == 256
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (source / name).read_bytes()
    golden.check(load_renderer(out), out)
    assert not list(out.glob("*.bin"))


def test_what_was_read_is_listed_with_its_digest_and_nothing_else(made, tmp_path):
    (source := tmp_path / "source").mkdir()
    shutil.copytree(made, source, dirs_exist_ok=True)
    (source / "README.md").write_text("read by people")
    found = adopt(source, tmp_path / "out")
    read = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert set(found.files) == read
    assert found.files["model.safetensors"].bytes == (source / "model.safetensors").stat().st_size


def test_a_base_that_pads_with_its_stop_token_is_taken_as_it_is(made, tmp_path):
    adopt(made, tmp_path / "out")
    protocol = protocol_of(tmp_path / "out")
    assert protocol.pad_id == protocol.stop_id == 2


def test_shards_with_an_index_are_one_model(foreign, tmp_path):
    before = logits(foreign)
    model = AutoModelForCausalLM.from_pretrained(foreign)
    (foreign / "model.safetensors").unlink()
    model.save_pretrained(foreign, max_shard_size="20KB")
    assert len(list(foreign.glob("*.safetensors"))) > 1
    found = adopt(foreign, tmp_path / "out")
    assert torch.equal(logits(tmp_path / "out"), before)
    assert "model.safetensors.index.json" in found.files


def test_a_gguf_file_answers_as_the_folder_it_was_made_from(tmp_path):
    pytest.importorskip("gguf", reason="pip install 'llm-lifecycle[smollm2]'")
    file = write_gguf(tmp_path / "base.gguf")
    found = adopt(file, tmp_path / "out")
    assert torch.allclose(logits(tmp_path / "out"), logits(file.with_suffix(".source")), atol=1e-5)
    assert list(found.files) == ["base.gguf"]
    settings = json.loads((tmp_path / "out/config.json").read_text())
    assert "quantization_config" not in settings


def test_bf16_is_half_the_bytes_and_the_window_can_be_narrowed(made, tmp_path):
    found = adopt(made, tmp_path / "out", precision="bf16", max_seq_len=64)
    assert found.max_seq_len == 64
    assert {weight.dtype for weight in load_file(tmp_path / "out/model.safetensors").values()} == {torch.bfloat16}


def test_a_missing_tensor_would_be_random_and_is_refused(foreign, tmp_path):
    change(foreign, **{"model.layers.1.mlp.up_proj.weight": None})
    with pytest.raises(InputError, match=r"found 1 missing, model\.layers\.1\.mlp\.up_proj\.weight"):
        adopt(foreign, tmp_path / "out")


def test_a_tensor_too_many_is_refused(foreign, tmp_path):
    change(foreign, **{"model.layers.7.mlp.up_proj.weight": torch.zeros(2, 2)})
    with pytest.raises(InputError, match=r"found 1 unexpected, model\.layers\.7"):
        adopt(foreign, tmp_path / "out")


def test_two_embeddings_that_are_said_to_be_one_are_refused_and_equal_ones_taken(foreign, tmp_path):
    embedding = load_file(foreign / "model.safetensors")["model.embed_tokens.weight"]
    change(foreign, **{"lm_head.weight": embedding.clone()})
    adopt(foreign, tmp_path / "out")
    change(foreign, **{"lm_head.weight": embedding + 1})
    with pytest.raises(InputError, match=r"expected one embedding \(tie_word_embeddings\)"):
        adopt(foreign, tmp_path / "out2")


def test_an_untied_model_without_a_head_is_refused_and_with_one_taken(tmp_path):
    source = write_base(tmp_path / "source", tied=False)
    adopt(source, tmp_path / "out")
    assert "lm_head.weight" in load_file(tmp_path / "out/model.safetensors")
    change(source, **{"lm_head.weight": None})
    with pytest.raises(InputError, match=r"lm_head\.weight"):
        adopt(source, tmp_path / "out2")


def test_weights_that_are_no_numbers_are_refused(foreign, tmp_path):
    change(foreign, **{"model.norm.weight": torch.full((32,), float("nan"))})
    with pytest.raises(InputError, match=r"NaN or Inf in model\.norm\.weight"):
        adopt(foreign, tmp_path / "out")


def test_a_tokenizer_with_more_ids_than_the_embedding_is_refused(foreign, tmp_path):
    path = foreign / "tokenizer.json"
    spec = json.loads(path.read_text())
    number = max(spec["model"]["vocab"].values()) + 1
    spec["added_tokens"].append({**spec["added_tokens"][0], "id": number, "content": "<|one_more|>"})
    path.write_text(json.dumps(spec))
    with pytest.raises(InputError, match=rf"found {number} rows and the id {number} of '<\|one_more\|>'"):
        adopt(foreign, tmp_path / "out")


def test_two_templates_that_differ_and_none_at_all_are_refused_and_one_can_be_given(foreign, tmp_path):
    settings = json.loads((foreign / "tokenizer_config.json").read_text())
    (foreign / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": "another"}))
    with pytest.raises(InputError, match="expected one chat template, found another in tokenizer_config"):
        adopt(foreign, tmp_path / "out")
    (foreign / "tokenizer_config.json").write_text(json.dumps(settings))
    (own := tmp_path / "own.jinja").write_text(CHATML)
    with pytest.raises(InputError, match=r"expected one chat template, found one, and another in base\.template"):
        adopt(foreign, tmp_path / "out2", template=own)
    (foreign / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="expected one chat template, found none"):
        adopt(foreign, tmp_path / "out3")
    adopt(foreign, tmp_path / "out4", template=own)
    assert (tmp_path / "out4/chat_template.jinja").read_text() == CHATML


def test_a_template_that_is_not_proven_is_refused(foreign, tmp_path):
    (foreign / "chat_template.jinja").write_text(CHATML.replace("message['content']", "message['content'] | upper"))
    with pytest.raises(ContractError, match="expected a chat template"):
        adopt(foreign, tmp_path / "out")


def test_code_in_a_tokenizers_settings_is_refused(foreign, tmp_path):
    settings = json.loads((foreign / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["tokenization_evil.Evil", None]}
    (foreign / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="found 'auto_map'"):
        adopt(foreign, tmp_path / "out")


@pytest.mark.parametrize("layers", [10**9, -1, 2.5, None])
def test_a_config_with_more_layers_than_tensors_is_refused_before_they_are_built(foreign, tmp_path, layers):
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    with pytest.raises(InputError, match=r"expected (at most as many layers|a whole number from 1 on as num_hidden)"):
        adopt(foreign, tmp_path / "out")


def test_a_config_that_transformers_cannot_build_is_an_error_with_what_to_do(foreign, tmp_path):
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps(config | {"rope_parameters": {"rope_type": "nobody's"}}))
    with pytest.raises(InputError, match=r"expected a model that transformers can build, found one that ends in \w+:"):
        adopt(foreign, tmp_path / "out")
    assert not (tmp_path / "out/model.safetensors").exists()
