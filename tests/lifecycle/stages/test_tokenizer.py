"""The tokenizer of a corpus: special tokens first, text unchanged, the same bytes every time."""

import subprocess
import sys

import pytest

from lifecycle.artifacts import Corpus
from lifecycle.chat.protocol import SPECIAL_TOKENS, load_tokenizer
from lifecycle.errors import ContractError
from lifecycle.stages.tokenizer import TokenizerConfig, train_tokenizer

AGAIN = """
import sys
from pathlib import Path
from lifecycle.artifacts import Corpus
from lifecycle.stages.tokenizer import TokenizerConfig, train_tokenizer
corpus = Corpus.load(Path(sys.argv[1]))
print(train_tokenizer(TokenizerConfig(vocab_size=400), corpus, out_dir=Path(sys.argv[2])).digest)
"""


def test_special_tokens_have_the_first_ids_and_text_comes_back(corpus, out_dir):
    tokenizer = train_tokenizer(TokenizerConfig(vocab_size=400), corpus, out_dir=out_dir)
    bpe = load_tokenizer(out_dir)
    assert [bpe.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(6))
    assert (tokenizer.bos_id, tokenizer.pad_id, tokenizer.stop_id) == (0, 1, 2)
    assert tokenizer.vocab_size == bpe.get_vocab_size() == 400
    text = "Ünïcode\t 東京 1851\r\n\n  the ship"
    assert bpe.decode(bpe.encode(text).ids) == text


def test_another_process_makes_the_same_bytes(corpus, out_dir, tmp_path):
    here = train_tokenizer(TokenizerConfig(vocab_size=400), corpus, out_dir=out_dir)
    (tmp_path / "there").mkdir()
    command = [sys.executable, "-c", AGAIN, str(corpus.path), str(tmp_path / "there")]
    there = subprocess.run(command, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here.digest


def test_a_corpus_without_documents_is_refused(tmp_path, out_dir):
    (tmp_path / "empty").mkdir()
    facts = {"train_documents": 0, "validation_documents": 3, "sources": {}, "suites_digest": "s"}
    nothing = Corpus(path=tmp_path / "empty", **facts).seal(TokenizerConfig())
    with pytest.raises(ContractError, match="expected documents to train and to validate on, found 0 and 3"):
        train_tokenizer(TokenizerConfig(), nothing, out_dir=out_dir)
