"""What SFT and preference tuning share: a model, and a tokenizer that is the model's own."""

import json

import pytest
import torch
from foreign_base import write_tokenizer

from benchmarks import templates
from lifecycle.chat import adopt, golden
from lifecycle.errors import ContractError
from lifecycle.workers import posttrain

CONVERSATION = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "xy"}]


def test_a_template_that_differs_from_our_renderer_is_refused(base):
    spoken = posttrain.load_protocol(base.path)
    ids = spoken.renderer.render(CONVERSATION).ids
    spoken.same_as_template(CONVERSATION, ids, row="r1")
    spoken.wrapped.chat_template = spoken.wrapped.chat_template.replace(
        "message['content']", "message['content'] + '!'"
    )
    with pytest.raises(ContractError, match="row r1: expected the ids of the checkpoint's chat template"):
        spoken.same_as_template(CONVERSATION, ids, row="r1")


def test_only_a_row_with_a_typed_special_token_is_passed_over_by_the_comparison(base):
    spoken, wrong_ids = posttrain.load_protocol(base.path), [0]
    typed = [{"role": "user", "content": "what is <|end|>?"}, CONVERSATION[1]]
    assert spoken.same_as_template(typed, wrong_ids, row="r1") is None
    with pytest.raises(ContractError):
        spoken.same_as_template(CONVERSATION, wrong_ids, row="r1")


def test_a_foreign_protocol_with_tools_is_held_against_its_template_behind_a_result_too(tmp_path):
    write_tokenizer(tmp_path, template=(templates.folder() / "qwen2_5.jinja").read_text())
    adopt.prove(tmp_path)
    assert posttrain.load_protocol(tmp_path).renderer.structure.call
    sealed = [message for row in golden.read(tmp_path) for message in row.messages]
    assert any(message["role"] == "tool" for message in sealed)
    assert any("tools" in message for message in sealed)


def test_a_template_that_writes_calls_otherwise_is_refused_before_the_first_row(tool_renderer, tmp_path):
    folder = tmp_path / "with_tools"
    posttrain.load_protocol(folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("'<|call|>' + as_text", "'<|call|> ' + as_text"))
    with pytest.raises(ContractError, match=r"golden conversation 5.*: expected the ids of the checkpoint's"):
        posttrain.load_protocol(folder)


@pytest.mark.parametrize("pad", ["<|pad|>", "<|end|>"])
def test_the_stop_token_is_learned_also_where_it_is_the_padding(base, pad):
    """transformers gives the embedding of the padding token no gradient: SmolLM2 pads with the end of a turn."""
    spoken = posttrain.load_protocol(base.path)
    file = base.path / "config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"pad_token_id": spoken.renderer.tokenizer.token_to_id(pad)})
    )
    model = posttrain.load_model(base.path)
    ids = torch.tensor([spoken.renderer.render([*CONVERSATION, *CONVERSATION]).ids])
    states = model.get_input_embeddings()(ids)
    states.sum().backward()
    stop = spoken.renderer.protocol.stop_id
    assert model.get_input_embeddings().weight.grad[stop].abs().sum() > 0
