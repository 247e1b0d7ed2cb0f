"""The tokenizer folder: same bytes each time, one digest, and no folder that speaks half the protocol."""

import json

import pytest

from lifecycle.chat.folder import copy_tokenizer, save_tokenizer
from lifecycle.chat.protocol import SPECIAL_TOKENS, TOKENIZER_FILES, load_tokenizer, protocol_of
from lifecycle.errors import ContractError, InputError


def test_special_tokens_have_the_first_ids_and_pad_is_not_the_stop_token(bpe, tmp_path):
    protocol = save_tokenizer(bpe, tmp_path)
    assert (protocol.bos_id, protocol.pad_id, protocol.stop_id) == (0, 1, 2)
    loaded = load_tokenizer(tmp_path)
    assert [loaded.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4, 5]


def test_saving_twice_gives_the_same_bytes_and_copying_keeps_the_digest(bpe, tmp_path):
    first, second = save_tokenizer(bpe, tmp_path / "a"), save_tokenizer(bpe, tmp_path / "b")
    copy_tokenizer(tmp_path / "a", tmp_path / "c")
    assert first == second == protocol_of(tmp_path / "c")
    for name in TOKENIZER_FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_limit_set_on_the_tokenizer_is_not_saved_with_it(bpe, tmp_path):
    bpe.enable_truncation(4)
    bpe.enable_padding(length=4)
    save_tokenizer(bpe, tmp_path)
    assert len(load_tokenizer(tmp_path).encode("the record of a package " * 9).ids) > 4
    assert bpe.truncation is not None, "the tokenizer we were lent is as it was"


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja"])
def test_one_more_byte_is_another_protocol(bpe, tmp_path, name):
    before = save_tokenizer(bpe, tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"\n")
    assert protocol_of(tmp_path).digest != before.digest


def test_another_stop_token_is_another_protocol(bpe, tmp_path):
    before = save_tokenizer(bpe, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "<|pad|>"}))
    assert protocol_of(tmp_path).digest != before.digest


def test_a_tokenizer_without_our_special_tokens_is_refused(tmp_path):
    import tokenizers

    with pytest.raises(ContractError, match=r"at ids 0 to 5, found \[None.*special_tokens=list"):
        save_tokenizer(tokenizers.Tokenizer(tokenizers.models.BPE()), tmp_path)


def test_a_folder_with_a_file_missing_is_refused(bpe, tmp_path):
    save_tokenizer(bpe, tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match=r"expected a tokenizer folder .* Rerun the tokenizer stage"):
        protocol_of(tmp_path)
