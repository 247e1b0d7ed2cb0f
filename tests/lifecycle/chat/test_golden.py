"""Golden conversations: sealed with the tokenizer, rendered again, and the first token that differs is shown."""

import json
import re
from pathlib import Path

import pytest
import tokenizers
from tokenizers import normalizers

from lifecycle.artifacts import Tokenizer, TokenShards
from lifecycle.chat import golden
from lifecycle.chat.folder import copy_tokenizer, save_tokenizer
from lifecycle.chat.protocol import END, load_tokenizer, protocol_of
from lifecycle.chat.render import load_renderer
from lifecycle.errors import ContractError
from lifecycle.stages.tokenizer import TokenizerConfig


@pytest.fixture
def folder(bpe, tmp_path):
    save_tokenizer(bpe, tmp_path / "made")
    copy_tokenizer(tmp_path / "made", tmp_path / "carried")
    return tmp_path / "carried"


def test_what_was_sealed_is_rendered_again_after_it_was_carried_on(folder):
    golden.check(load_renderer(folder), folder)
    sealed = golden.read(folder)
    assert len(sealed) == len(golden.CONVERSATIONS)
    for row in sealed:
        last_answer_ends = (row.tokens[-1], row.assistant_mask[-1])
        assert last_answer_ends == (END, 1)
        assert 0 < sum(row.assistant_mask) < len(row.ids) == len(row.tokens)


def test_typed_special_tokens_are_text_in_the_golden_conversations(folder):
    injected = golden.read(folder)[-1]
    turns = len(injected.messages)
    assert injected.tokens.count(END) == turns
    assert injected.tokens.count("<|assistant|>") == 1


def test_another_normaliser_is_shown_as_the_first_token_that_differs(folder):
    changed = tokenizers.Tokenizer.from_str(load_tokenizer(folder).to_str())
    changed.normalizer = normalizers.Replace("2", "3")
    changed.save(str(folder / "tokenizer.json"))
    with pytest.raises(ContractError, match=r"golden conversation 0, token \d+: .* then, .* now") as refused:
        golden.check(load_renderer(folder), folder)
    assert "12345" in str(refused.value)
    assert "13345" in str(refused.value)


def test_a_mask_that_was_shifted_by_one_is_a_difference(folder):
    rows = json.loads((folder / golden.GOLDEN_FILE).read_text())
    mask = rows[2]["assistant_mask"]
    rows[2]["assistant_mask"] = [0, *mask[:-1]]
    (folder / golden.GOLDEN_FILE).write_text(json.dumps(rows))
    difference = golden.first_difference(load_renderer(folder), golden.read(folder))
    assert difference is not None
    assert (difference.conversation, difference.token) == (2, mask.index(1))


def sealed_as_tokenizer(folder: Path) -> Tokenizer:
    found = protocol_of(folder)
    ids = {"bos_id": found.bos_id, "pad_id": found.pad_id, "stop_id": found.stop_id}
    return Tokenizer(path=folder, vocab_size=330, protocol_digest=found.digest, **ids).seal(TokenizerConfig())


def test_two_folders_that_speak_otherwise_are_told_apart_by_their_first_token(folder, bpe, tmp_path, tool_renderer):
    ours = sealed_as_tokenizer(folder)
    golden.speak_alike(ours, ours)
    bpe.normalizer = normalizers.Replace("2", "3")
    save_tokenizer(bpe, tmp_path / "normalised")
    other = sealed_as_tokenizer(tmp_path / "normalised")
    with pytest.raises(ContractError) as refused:
        golden.speak_alike(ours, other)
    said = str(refused.value)
    assert ours.protocol_digest[:12] in said
    assert other.protocol_digest[:12] in said
    assert re.search(
        r"0 parts at token 10: id 23 in '.*12345.*' in the first, id 24 in '.*13345.*' in the second", said
    )
    with pytest.raises(ContractError, match=r"token 2: id \d+ in '(.*)' in the first, id \d+ in '\1' in the second"):
        golden.speak_alike(sealed_as_tokenizer(tmp_path / "with_tools"), ours)


def test_two_folders_of_which_only_the_template_was_edited_are_told_apart_by_the_file(folder, tmp_path):
    copy_tokenizer(folder, tmp_path / "edited")
    template = tmp_path / "edited/chat_template.jinja"
    template.write_text(template.read_text() + "\n")
    with pytest.raises(ContractError, match=r"come out alike; these files differ: chat_template.jinja"):
        golden.speak_alike(sealed_as_tokenizer(folder), sealed_as_tokenizer(tmp_path / "edited"))


def test_shards_are_told_from_a_tokenizer_by_the_token_that_it_gives_otherwise(folder, bpe, tmp_path):
    """They carry how the tokenizer that made them rendered the golden conversations, and no tokenizer."""
    made_by = sealed_as_tokenizer(folder)
    golden.keep(folder, tmp_path / "shards")
    facts = dict.fromkeys(("max_seq_len", "vocab_size", "rows", "validation_rows", "tokens"), 1)
    shards = TokenShards(
        path=tmp_path / "shards", dtype="uint16", tokens_by_source={}, protocol_digest=made_by.protocol_digest, **facts
    ).seal(TokenizerConfig())
    golden.speak_alike(shards, made_by)
    bpe.normalizer = normalizers.Replace("2", "3")
    save_tokenizer(bpe, tmp_path / "normalised")
    with pytest.raises(ContractError, match=r"0 parts at token 10: id 23 in '.*12345.*' in the first, id 24 in '.*133"):
        golden.speak_alike(shards, sealed_as_tokenizer(tmp_path / "normalised"))


CUT = '[{"messages": [], "ids": [0, 1], "assistant_mask": [0], "tokens": ["a", "b"]}]'


@pytest.mark.parametrize("content", [None, "[]", "{}", "not json", CUT])
def test_a_folder_that_cannot_be_checked_is_refused(folder, content):
    file = folder / golden.GOLDEN_FILE
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(ContractError, match=r"expected golden conversations.*rerun|Rerun"):
        golden.check(load_renderer(folder), folder)
