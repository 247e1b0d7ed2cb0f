"""A tokenizer fitted to the corpus or adopted, bound to the chat template it will be used with everywhere."""

import json
from collections import defaultdict
from pathlib import Path
from typing import ClassVar, Literal

import tokenizers
from pydantic import Field

from lifecycle import contracts, progress
from lifecycle.artifacts import Checkpoint, Corpus, Tokenizer
from lifecycle.chat import panics
from lifecycle.chat.folder import copy_tokenizer, save_adopted, save_tokenizer
from lifecycle.chat.protocol import SPECIAL_TOKENS, Protocol, load_tokenizer, protocol_of, special_tokens
from lifecycle.data.bpe import BYTE_LETTERS, train_bpe
from lifecycle.data.jsonl import Lines, load_rows
from lifecycle.data.order import shuffled
from lifecycle.data.tokenizer_fit import fit
from lifecycle.errors import ConfigError, InputError
from lifecycle.sealing import StageConfig, later_field

FIT = "fit.json"
BYTES = len(BYTE_LETTERS)
CODE = {".py", ".bin", ".pt", ".pth", ".pkl", ".pickle"}


class FittedConfig(StageConfig):
    """What trained and adopted tokenizers share: how their fit is measured."""

    stage: ClassVar[str] = "tokenizer"
    revision: ClassVar[int] = 2
    reference: Path | None = Field(None, description="A tokenizer.json that the fit report compares with.")
    fit_bytes_per_source: int = Field(
        2**19, ge=1, description="Training text of each source that the fit is measured on."
    )


class TokenizerConfig(FittedConfig):
    """How the vocabulary is learned. Only training documents are read: validation text must not shape the tokens."""

    vocab_size: int = Field(
        2048, ge=BYTES + len(SPECIAL_TOKENS), description="Ids at most: special tokens, 256 bytes, then merges."
    )
    max_digits_per_token: int = Field(3, ge=1, le=9, description="Longest run of digits in a token; GPT-4 uses 3.")
    reserved_tokens: int = Field(
        0, ge=0, description="Special tokens behind the chat tokens that mean nothing yet: ids for what comes later."
    )
    tools: bool = later_field(False, description="Whether the chat protocol has calls of tools and their results.")


class AdoptTokenizerConfig(FittedConfig):
    """Which tokenizer is adopted. Its ids stay; chat tokens it lacks get ids behind them, the template is ours."""

    folder: Path = Field(description="A Hugging Face folder; its tokenizer.json is read, and nothing in it is run.")
    max_changed_share: float = Field(
        0.0, ge=0, lt=1, description="Of sampled documents that may come back changed from encoding and decoding."
    )


class BaseTokenizerConfig(FittedConfig):
    """The tokenizer of the base that pretraining goes on from, file for file: other ids would be other words to it."""

    of: Literal["base"] = "base"
    max_changed_share: float = Field(
        0.0, ge=0, lt=1, description="Of sampled documents that may come back changed from encoding and decoding."
    )


def train_tokenizer(
    config: TokenizerConfig | AdoptTokenizerConfig | BaseTokenizerConfig,
    corpus: Corpus,
    base: Checkpoint | None = None,
    *,
    out_dir: Path,
) -> Tokenizer:
    """Learn byte-level BPE merges from the training documents, or adopt them, and save them with the chat template."""
    contracts.has_documents(corpus)
    source = config.folder if isinstance(config, AdoptTokenizerConfig) else out_dir
    with panics.refused(config.reference or source):
        reference = _reference(config.reference)  # an unreadable one is refused before merges are learned
    with panics.refused(source):
        protocol = _made(config, corpus, base, out_dir)
        vocab_size = _measure(config, reference, corpus, out_dir)
    return Tokenizer(
        path=out_dir,
        vocab_size=vocab_size,
        bos_id=protocol.bos_id,
        pad_id=protocol.pad_id,
        stop_id=protocol.stop_id,
        protocol_digest=protocol.digest,
    ).seal(config, corpus, *([] if base is None else [base]))


def _made(
    config: TokenizerConfig | AdoptTokenizerConfig | BaseTokenizerConfig,
    corpus: Corpus,
    base: Checkpoint | None,
    out_dir: Path,
) -> Protocol:
    """Write the tokenizer that the config asks for."""
    match config:
        case AdoptTokenizerConfig():
            return save_adopted(_foreign(config.folder), out_dir)
        case BaseTokenizerConfig():
            return _of(base, out_dir)
    return _train(config, corpus, out_dir)


def _train(config: TokenizerConfig, corpus: Corpus, out_dir: Path) -> Protocol:
    progress.report(0, corpus.train_documents, "documents", "learning merges")
    chat = special_tokens(tools=config.tools)
    reserved = [f"<|reserved_{number}|>" for number in range(config.reserved_tokens)]
    if config.vocab_size < (least := BYTES + len(chat) + len(reserved)):
        raise InputError(
            f"expected tokenizer.vocab_size of at least {least} for {len(chat)} chat tokens, {len(reserved)} "
            f"reserved ones and {BYTES} bytes, found {config.vocab_size}. Raise it or reserve fewer."
        )
    bpe = train_bpe(
        (row["text"] for row in load_rows(corpus.train_file)),
        vocab_size=config.vocab_size,
        special_tokens=[*chat, *reserved],
        max_digits_per_token=config.max_digits_per_token,
    )
    return save_tokenizer(bpe, out_dir, tools=config.tools)


def _of(base: Checkpoint | None, out_dir: Path) -> Protocol:
    if base is None:
        raise ConfigError("expected a base whose tokenizer is kept, found none. Give the recipe a `base`.")
    copy_tokenizer(base.path, out_dir)
    return protocol_of(out_dir)


def _foreign(folder: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a folder from outside, if it is byte-level BPE and the folder asks for no code to be run."""
    code = sorted(path.name for path in folder.rglob("*") if path.suffix in CODE)
    try:
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        settings = folder / "tokenizer_config.json"
        asks = settings.is_file() and "auto_map" in json.loads(settings.read_bytes())
        spec = json.loads(text)
        model = spec["model"]
        letters = all(letter in model["vocab"] for letter in BYTE_LETTERS.values())
        tokenizer = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # `tokenizers` raises no narrower class
        raise InputError(
            f"{folder}: expected a folder with a readable tokenizer.json, found {error!r}. Check tokenizer.folder."
        ) from error
    if code or asks:
        found = code[:3] or "auto_map in tokenizer_config.json"
        raise InputError(
            f"{folder}: expected a tokenizer that is data, found {found}, which transformers would run. Copy "
            "tokenizer.json alone into a folder and adopt that."
        )
    if model.get("type") != "BPE" or not letters or model.get("dropout"):
        raise InputError(
            f"{folder}: expected byte-level BPE with all {BYTES} bytes and no dropout, found {model.get('type')!r}. "
            "Adopt another tokenizer or train one."
        )
    return tokenizer


def _reference(path: Path | None) -> tokenizers.Tokenizer | None:
    if path is None:
        return None
    try:
        return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # `tokenizers` raises no narrower class
        raise InputError(
            f"{path}: expected a readable tokenizer.json to compare with, found {error!r}. Set tokenizer.reference to "
            "one, or to None."
        ) from error


def _measure(
    config: TokenizerConfig | AdoptTokenizerConfig | BaseTokenizerConfig,
    reference: tokenizers.Tokenizer | None,
    corpus: Corpus,
    out_dir: Path,
) -> int:
    """Write the fit report and return how many ids the model needs."""
    lines = Lines(corpus.train_file)
    texts: dict[str, list[str]] = defaultdict(list)
    room = dict.fromkeys(corpus.sources, config.fit_bytes_per_source)
    for number in shuffled(range(len(lines)), len(lines), "fit").tolist():
        row = lines[number]
        if room.get(row["source"], 0) > 0:
            texts[row["source"]].append(row["text"])
            room[row["source"]] -= len(row["text"].encode())
        elif max(room.values()) <= 0:
            break
    progress.report(0, len(texts), "sources", "measuring the fit")
    tokenizer = load_tokenizer(out_dir)
    report = fit(tokenizer, texts, reference=reference)
    changed = sum(source.changed_documents for source in report.sources.values())
    documents = sum(source.documents for source in report.sources.values())
    allowed = 0.0 if isinstance(config, TokenizerConfig) else config.max_changed_share
    if changed > allowed * documents:
        raise InputError(
            f"expected a tokenizer that gives text back, found {changed} of {documents} documents changed by encoding "
            "and decoding. Adopt one that loses nothing, or raise tokenizer.max_changed_share."
        )
    (out_dir / FIT).write_text(report.model_dump_json(indent=1) + "\n")
    return max(tokenizer.get_vocab().values()) + 1
