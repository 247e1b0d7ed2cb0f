"""A GGUF file's tokenizer cuts text as the model was trained; a damaged file is refused before it is believed."""

import json
import struct

import pytest
from foreign_base import CHATML, chatml_tokenizer, write_gguf
from tokenizers import Tokenizer

from lifecycle.errors import InputError
from lifecycle.model.gguf_file import GgufFile

pytest.importorskip("gguf", reason="the package gguf reads these files: pip install 'llm-lifecycle[smollm2]'")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "base.gguf")


def test_ids_special_tokens_and_template_are_the_models_own(made, tmp_path):
    GgufFile(made).save_tokenizer(tmp_path)
    read, wrote = Tokenizer.from_file(str(tmp_path / "tokenizer.json")), chatml_tokenizer()
    assert read.get_vocab() == wrote.get_vocab()
    text = "<|im_start|>user\nReturn naïve 日本 🎉<|im_end|>"
    assert read.encode(text).ids == wrote.encode(text).ids
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (settings["bos_token"], settings["eos_token"], settings["pad_token"]) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert (tmp_path / "chat_template.jinja").read_text() == CHATML


def test_digits_are_cut_as_the_header_says_which_transformers_leaves_out(made, tmp_path):
    GgufFile(made).save_tokenizer(tmp_path)
    cut = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).pre_tokenizer.pre_tokenize_str("a  12")
    assert [text for text, _ in cut] == ["a", "ĠĠ", "1", "2"], "GPT-2's own cut is a, Ġ, Ġ12"


def test_a_cut_that_is_not_known_is_refused(tmp_path):
    odd = GgufFile(write_gguf(tmp_path / "odd.gguf", cut="tekken"))
    with pytest.raises(InputError, match="found 'gpt2' cut as 'tekken'"):
        odd.save_tokenizer(tmp_path)


def test_an_unknown_family_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a model of a known family"):
        GgufFile(write_gguf(tmp_path / "odd.gguf", architecture="mamba"))


@pytest.mark.parametrize(
    "start",
    [b"", b"GGML", struct.pack("<4sIQQ", b"GGUF", 9, 1, 1), struct.pack("<4sIQQ", b"GGUF", 3, 2**60, 1)],
)
def test_what_is_no_gguf_or_names_more_than_any_model_has_is_refused(tmp_path, start):
    (tmp_path / "x.gguf").write_bytes(start)
    with pytest.raises(InputError, match="expected GGUF version 2 or 3"):
        GgufFile(tmp_path / "x.gguf")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_file_cut_short_is_refused(made, tmp_path, share):
    whole = made.read_bytes()
    (tmp_path / "x.gguf").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="ends early or is damaged"):
        GgufFile(tmp_path / "x.gguf")


def test_a_text_said_to_be_longer_than_the_file_is_refused(tmp_path):
    header = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + struct.pack("<Q", 2**62) + b"general.architecture"
    (tmp_path / "x.gguf").write_bytes(header)
    with pytest.raises(InputError, match="ends early or is damaged"):
        GgufFile(tmp_path / "x.gguf")
