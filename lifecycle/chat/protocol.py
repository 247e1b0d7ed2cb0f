"""The chat protocol: special tokens, template and tokenizer as one folder with one digest.

Two artifacts with the same protocol digest turn the same conversation into the same ids.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import tokenizers

from lifecycle.errors import InputError
from lifecycle.sealing import sha256_file

BOS, PAD, END = "<|bos|>", "<|pad|>", "<|end|>"
ROLE_TOKENS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL_TOKENS = (BOS, PAD, END, *ROLE_TOKENS.values())
"""In the order of their ids, from 0. Padding has its own token: padding with <|end|> would mask it out of the loss."""

TEMPLATE = Path(__file__).with_name("template.jinja")
GOLDEN_FILE = "golden.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", GOLDEN_FILE)


class Protocol(NamedTuple):
    """The ids a model must know, and the digest that says two folders speak alike."""

    bos_id: int
    pad_id: int
    stop_id: int
    digest: str


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
