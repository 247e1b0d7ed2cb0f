"""Golden conversations: sealed with the tokenizer, rendered again, and the first token that differs is shown."""

import json

import pytest
import tokenizers
from tokenizers import normalizers

from lifecycle.chat import golden
from lifecycle.chat.folder import copy_tokenizer, save_tokenizer
from lifecycle.chat.protocol import END, load_tokenizer
from lifecycle.errors import ContractError


@pytest.fixture
def folder(bpe, tmp_path):
    save_tokenizer(bpe, tmp_path / "made")
    copy_tokenizer(tmp_path / "made", tmp_path / "carried")
    return tmp_path / "carried"


def test_what_was_sealed_is_rendered_again_after_it_was_carried_on(folder):
    golden.check(load_tokenizer(folder), folder)
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
    with pytest.raises(ContractError, match=r"golden conversation 0, token \d+: .* then, .* now") as refused:
        golden.check(changed, folder)
    assert "12345" in str(refused.value)
    assert "13345" in str(refused.value)


def test_a_mask_that_was_shifted_by_one_is_a_difference(folder):
    rows = json.loads((folder / golden.GOLDEN_FILE).read_text())
    mask = rows[2]["assistant_mask"]
    rows[2]["assistant_mask"] = [0, *mask[:-1]]
    (folder / golden.GOLDEN_FILE).write_text(json.dumps(rows))
    difference = golden.first_difference(load_tokenizer(folder), golden.read(folder))
    assert difference is not None
    assert (difference.conversation, difference.token) == (2, mask.index(1))


CUT = '[{"messages": [], "ids": [0, 1], "assistant_mask": [0], "tokens": ["a", "b"]}]'


@pytest.mark.parametrize("content", [None, "[]", "{}", "not json", CUT])
def test_a_folder_that_cannot_be_checked_is_refused(folder, content):
    file = folder / golden.GOLDEN_FILE
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(ContractError, match=r"expected golden conversations.*rerun|Rerun"):
        golden.check(load_tokenizer(folder), folder)
