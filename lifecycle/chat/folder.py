"""Tokenizer folders: written once by the tokenizer stage, then carried by every checkpoint byte for byte."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import tokenizers

from lifecycle.chat import golden
from lifecycle.chat.protocol import (
    BOS,
    CALL,
    END,
    PAD,
    PROVEN_FILE,
    ROLE_TOKENS,
    TEMPLATE,
    TOKENIZER_FILES,
    TOOL_TOKENS,
    TOOLS_TEMPLATE,
    Protocol,
    protocol_of,
    special_tokens,
)
from lifecycle.chat.render import load_renderer
from lifecycle.errors import ContractError

_CALL, _END = (re.escape(token) for token in (CALL, END))
RESPONSE = {
    "start_anchor": ROLE_TOKENS["assistant"],
    "fields": {
        "tool_calls": {
            "open_pattern": _CALL + r'\{"name": "(?P<name>[^"\\]+)", "arguments": ',
            "close_pattern": rf"\}}(?:(?={_CALL})|{_END}|\Z)",
            "repeats": True,
            "content": "json",
            "content_args": {"allow_non_json": True, "strip": False},  # a call that breaks off is no server error
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"close": END, "content": "text", "content_args": {"strip": False}},
    },
}
"""How a server reads calls out of what a model of our protocol with tools said, in the form transformers has for it."""


def save_tokenizer(
    bpe: tokenizers.Tokenizer, folder: Path, *, max_seq_len: int | None = None, tools: bool = False
) -> Protocol:
    """Write `bpe` with our template as a Hugging Face tokenizer folder; the same input gives the same bytes."""
    specials = special_tokens(tools=tools)
    found = [bpe.token_to_id(token) for token in specials]
    if found != list(range(len(specials))):
        raise ContractError(
            f"expected the special tokens {specials} at ids 0 to {len(specials) - 1}, found {found}. "
            f"Train the tokenizer with special_tokens=list(special_tokens(tools={tools}))."
        )
    return _save(bpe, folder, max_seq_len, tools=tools)


def save_adopted(bpe: tokenizers.Tokenizer, folder: Path) -> Protocol:
    """Write a tokenizer trained elsewhere with our template: its ids stay, the special tokens it lacks follow them."""
    spec = json.loads(bpe.to_str())
    spec["post_processor"] = None  # some add a token at the start, where ours is written by template and packing
    return _save(tokenizers.Tokenizer.from_str(json.dumps(spec)), folder, None)


def _save(bpe: tokenizers.Tokenizer, folder: Path, max_seq_len: int | None, *, tools: bool = False) -> Protocol:
    bpe = tokenizers.Tokenizer.from_str(bpe.to_str())
    bpe.no_truncation()  # a limit left in the file would cut conversations where nobody counts them
    bpe.no_padding()
    bpe.add_special_tokens(list(special_tokens(tools=tools)))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "extra_special_tokens": [*ROLE_TOKENS.values(), *(TOOL_TOKENS if tools else ())],
        "clean_up_tokenization_spaces": False,
    }
    if tools:
        config["response_template"] = RESPONSE
    if max_seq_len is not None:
        config["model_max_length"] = max_seq_len
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(bpe.to_str(pretty=True), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copyfile(TOOLS_TEMPLATE if tools else TEMPLATE, folder / "chat_template.jinja")
    golden.seal(load_renderer(folder), folder)
    return protocol_of(folder)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer files byte for byte: what speaks to the model after a stage is what spoke to it before."""
    target.mkdir(parents=True, exist_ok=True)
    foreign = [PROVEN_FILE] if (source / PROVEN_FILE).exists() else []
    for name in (*TOKENIZER_FILES, *foreign):
        shutil.copyfile(source / name, target / name)
