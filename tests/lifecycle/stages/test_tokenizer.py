"""The tokenizer of a corpus: special tokens first, text unchanged, the same bytes every time."""

import json
import subprocess
import sys

import pytest
import tokenizers
from foreign_base import write_tokenizer
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from lifecycle.artifacts import Checkpoint, Corpus
from lifecycle.chat.adopt import prove
from lifecycle.chat.protocol import SPECIAL_TOKENS, load_tokenizer, protocol_of
from lifecycle.data.bpe import as_text
from lifecycle.data.tokenizer_fit import Fit
from lifecycle.errors import ConfigError, ContractError, InputError
from lifecycle.sealing import fingerprint
from lifecycle.stages.tokenizer import (
    FIT,
    AdoptTokenizerConfig,
    BaseTokenizerConfig,
    TokenizerConfig,
    train_tokenizer,
)

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


def test_tools_add_two_tokens_and_without_them_no_artifact_changes(corpus, out_dir, tmp_path):
    (tmp_path / "plain").mkdir()
    plain = train_tokenizer(TokenizerConfig(vocab_size=400, reserved_tokens=2), corpus, out_dir=tmp_path / "plain")
    tools = train_tokenizer(TokenizerConfig(vocab_size=402, reserved_tokens=2, tools=True), corpus, out_dir=out_dir)
    without, with_them = (load_tokenizer(one.path).get_vocab() for one in (plain, tools))
    behind = {"<|tool|>": 6, "<|call|>": 7, "<|reserved_0|>": 8, "<|reserved_1|>": 9}
    assert with_them == {word: n + 2 * (n > 5) for word, n in without.items()} | behind
    assert tools.protocol_digest != plain.protocol_digest
    assert fingerprint(TokenizerConfig(tools=False), ()) == fingerprint(TokenizerConfig(), ())
    assert fingerprint(TokenizerConfig(tools=True), ()) != fingerprint(TokenizerConfig(), ())
    assert "tools" not in plain.manifest.config
    with pytest.raises(InputError, match="at least 264 for 8 chat tokens, 0 reserved ones and 256 bytes, found 262"):
        train_tokenizer(TokenizerConfig(vocab_size=262, tools=True), corpus, out_dir=out_dir)


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


def foreign(folder, change=lambda spec: None, pre_tokenizer=None):
    """A tokenizer.json of another house: its own special token, a token at the start of every text, no chat tokens."""
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>"], initial_alphabet=alphabet)
    bpe.train_from_iterator(["the captain saw the ship before dawn"] * 20, trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    spec = json.loads(bpe.to_str())
    change(spec)
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    return bpe


def test_an_adopted_tokenizer_keeps_its_ids_and_gets_the_chat_tokens_behind_them(corpus, tmp_path, out_dir):
    theirs = foreign(tmp_path / "theirs")
    size = theirs.get_vocab_size()
    adopted = train_tokenizer(AdoptTokenizerConfig(folder=tmp_path / "theirs"), corpus, out_dir=out_dir)
    ours = load_tokenizer(out_dir)
    assert [ours.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(size, size + 6))
    assert (adopted.vocab_size, adopted.bos_id, adopted.stop_id) == (size + 6, size, size + 2)
    text = "The captain saw 12 ships, naïve 東京"
    assert ours.encode(text).ids == theirs.encode(text, add_special_tokens=False).ids


def test_a_reference_that_cannot_be_read_is_refused_before_anything_is_learned(corpus, tmp_path, out_dir):
    (tmp_path / "tokenizer.json").write_text("{")
    for path in (tmp_path / "tokenizer.json", tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match=r"expected a readable tokenizer.json to compare with, found .* Set token"):
            train_tokenizer(TokenizerConfig(vocab_size=400, reference=path), corpus, out_dir=out_dir)
    assert not any(out_dir.iterdir())


def test_a_reference_is_compared_with_and_the_fit_is_counted_by_source(corpus, tmp_path, out_dir):
    foreign(tmp_path / "theirs")
    config = TokenizerConfig(vocab_size=400, reference=tmp_path / "theirs/tokenizer.json")
    train_tokenizer(config, corpus, out_dir=out_dir)
    report = Fit.model_validate_json((out_dir / FIT).read_bytes())
    assert set(report.sources) == set(corpus.sources)
    for source in report.sources.values():
        assert source.bytes_per_token == pytest.approx(source.bytes / source.tokens, abs=1e-4)
        assert source.bytes_per_token > source.reference_bytes_per_token > 1  # it was trained on this text
        assert source.changed_documents == 0
    assert report.learned_tokens == 400 - 256 - 6
    assert report.unreachable == 0


def test_reserved_tokens_stand_behind_the_chat_tokens_and_are_no_text(corpus, out_dir):
    tokenizer = train_tokenizer(TokenizerConfig(vocab_size=400, reserved_tokens=3), corpus, out_dir=out_dir)
    bpe = as_text(load_tokenizer(out_dir))
    assert [bpe.token_to_id(f"<|reserved_{n}|>") for n in range(3)] == [6, 7, 8]
    assert tokenizer.vocab_size == 400
    assert not set(bpe.encode("say <|reserved_1|>").ids) & set(range(9))


def test_too_many_reserved_tokens_are_refused(corpus, out_dir):
    with pytest.raises(InputError, match="at least 462 for 6 chat tokens, 200 reserved ones and 256 bytes, found 400"):
        train_tokenizer(TokenizerConfig(vocab_size=400, reserved_tokens=200), corpus, out_dir=out_dir)


def lowercase(spec):
    spec["normalizer"] = {"type": "Lowercase"}


def dropout(spec):
    spec["model"]["dropout"] = 0.1


def gives_up(spec):
    """A pattern that tries every way to part a text before it finds none: the library panics at its limit."""
    pattern = r"((\S|\s)+)+(?=[^a])(?!\S|\s)"
    hostile = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [hostile, spec["pre_tokenizer"]]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (gives_up, r"theirs: expected a tokenizer that cuts any text, found one that gives up \(Onig: .*limit"),
        (lowercase, r"expected a tokenizer that gives text back, found (\d+) of \1 documents changed"),
        (dropout, "expected byte-level BPE with all 256 bytes and no dropout"),
        (lambda spec: spec["model"].update(vocab={"<s>": 0, "a": 1}, merges=[]), "expected byte-level BPE with all"),
        (lambda spec: spec.pop("model"), "expected a folder with a readable tokenizer.json, found KeyError"),
    ],
)
def test_a_tokenizer_that_would_lose_text_is_refused(corpus, tmp_path, out_dir, change, message):
    foreign(tmp_path / "theirs", change)
    with pytest.raises(InputError, match=message):
        train_tokenizer(AdoptTokenizerConfig(folder=tmp_path / "theirs"), corpus, out_dir=out_dir)


@pytest.mark.parametrize(
    ("name", "content"), [("tokenization_theirs.py", "print(1)"), ("tokenizer_config.json", '{"auto_map": {}}')]
)
def test_a_folder_that_asks_for_code_to_be_run_is_refused(corpus, tmp_path, out_dir, name, content):
    foreign(tmp_path / "theirs")
    (tmp_path / "theirs" / name).write_text(content)
    with pytest.raises(InputError, match=r"expected a tokenizer that is data, found .*(theirs\.py|auto_map)"):
        train_tokenizer(AdoptTokenizerConfig(folder=tmp_path / "theirs"), corpus, out_dir=out_dir)


def test_the_tokenizer_of_a_base_is_kept_file_for_file_and_its_fit_is_measured(corpus, tmp_path, out_dir):
    (folder := tmp_path / "base").mkdir()
    ids = write_tokenizer(folder)
    prove(folder)
    sizes = {"parameters": 9, "max_seq_len": 16, "steps": 0, "tokens_seen": 0, "final_loss": 4.0}
    protocol = protocol_of(folder)
    base = Checkpoint(path=folder, role="base", protocol_digest=protocol.digest, **sizes).seal(TokenizerConfig())
    kept = train_tokenizer(BaseTokenizerConfig(), corpus, base, out_dir=out_dir)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "golden.json", "protocol.json"):
        assert (out_dir / name).read_bytes() == (folder / name).read_bytes()
    assert (kept.protocol_digest, kept.vocab_size, kept.pad_id == kept.stop_id) == (protocol.digest, ids, True)
    assert [entry.digest for entry in kept.manifest.inputs] == [corpus.digest, base.digest]
    assert Fit.model_validate_json((out_dir / FIT).read_text()).vocab_size == ids


def test_without_a_base_there_is_no_tokenizer_to_keep(corpus, out_dir):
    with pytest.raises(ConfigError, match="expected a base whose tokenizer is kept, found none"):
        train_tokenizer(BaseTokenizerConfig(), corpus, out_dir=out_dir)
