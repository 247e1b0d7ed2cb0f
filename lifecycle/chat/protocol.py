"""The chat protocol: special tokens, template and tokenizer as one folder with one digest.

Two artifacts with the same protocol digest turn the same conversation into the same ids.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers

from lifecycle.errors import ContractError, InputError
from lifecycle.sealing import sha256_file

BOS, PAD, END = "<|bos|>", "<|pad|>", "<|end|>"
ROLE_TOKENS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL_TOKENS = (BOS, PAD, END, *ROLE_TOKENS.values())
"""In the order of their ids, from 0. Padding has its own token: padding with <|end|> would mask it out of the loss."""

TEMPLATE = Path(__file__).with_name("template.jinja")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class Protocol(NamedTuple):
    """The ids a model must know, and the digest that says two folders speak alike."""

    bos_id: int
    pad_id: int
    stop_id: int
    digest: str


def save_tokenizer(bpe: tokenizers.Tokenizer, folder: Path, *, max_seq_len: int | None = None) -> Protocol:
    """Write `bpe` with our template as a Hugging Face tokenizer folder; the same input gives the same bytes."""
    found = [bpe.token_to_id(token) for token in SPECIAL_TOKENS]
    if found != list(range(len(SPECIAL_TOKENS))):
        raise ContractError(
            f"expected the special tokens {SPECIAL_TOKENS} at ids 0 to {len(SPECIAL_TOKENS) - 1}, found {found}. "
            "Train the tokenizer with special_tokens=list(SPECIAL_TOKENS)."
        )
    return _save(bpe, folder, max_seq_len)


def save_adopted(bpe: tokenizers.Tokenizer, folder: Path) -> Protocol:
    """Write a tokenizer trained elsewhere with our template: its ids stay, the special tokens it lacks follow them."""
    spec = json.loads(bpe.to_str())
    spec["post_processor"] = None  # some add a token at the start, where ours is written by template and packing
    return _save(tokenizers.Tokenizer.from_str(json.dumps(spec)), folder, None)


def _save(bpe: tokenizers.Tokenizer, folder: Path, max_seq_len: int | None) -> Protocol:
    bpe = tokenizers.Tokenizer.from_str(bpe.to_str())
    bpe.no_truncation()  # a limit left in the file would cut conversations where nobody counts them
    bpe.no_padding()
    bpe.add_special_tokens(list(SPECIAL_TOKENS))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "extra_special_tokens": list(ROLE_TOKENS.values()),
        "clean_up_tokenization_spaces": False,
    }
    if max_seq_len is not None:
        config["model_max_length"] = max_seq_len
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(bpe.to_str(pretty=True), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copyfile(TEMPLATE, folder / "chat_template.jinja")
    return protocol_of(folder)


def protocol_of(folder: Path) -> Protocol:
    """The protocol of a tokenizer folder, computed from its bytes."""
    ids = special_ids(folder)
    parts = {"ids": ids, **{name: sha256_file(folder / name) for name in ("tokenizer.json", "chat_template.jinja")}}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return Protocol(ids["bos_token"], ids["pad_token"], ids["eos_token"], digest)


def special_ids(folder: Path) -> dict[str, int]:
    """Ids of the tokens that begin, pad and end, as the folder's two JSON files name them."""
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
        added = json.loads((folder / "tokenizer.json").read_bytes())["added_tokens"]
        id_of = {token["content"]: int(token["id"]) for token in added}
        return {name: id_of[config[name]] for name in ("bos_token", "pad_token", "eos_token")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: expected a tokenizer folder ({', '.join(TOKENIZER_FILES)}) that names its bos, pad and eos "
            f"tokens; found {error!r}. Rerun the tokenizer stage."
        ) from error


def load_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """The fast tokenizer of a folder, without transformers."""
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer files byte for byte: what speaks to the model after a stage is what spoke to it before."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, target / name)
