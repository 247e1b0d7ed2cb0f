"""A GGUF file's own account of itself: the family of its network, and its tokenizer as a Hugging Face folder.

Weights are read by transformers. The tokenizer is made here: transformers leaves `tokenizer.ggml.pre` out, and with it
how text is cut before merging; SmolLM2's digits after two spaces then get other ids than it was trained on.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from lifecycle.errors import InputError
from lifecycle.model.foreign import check_family

MOST_KEYS, MOST_TENSORS = 10_000, 100_000  # SmolLM2 has 33 and 272; a file of 405B weights has 1,138 tensors
CONTROL, USER_DEFINED = 3, 4  # token types of llama.cpp (`llama_token_type`)

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _bytes(*, regex: bool) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)


def _split(pattern: str) -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), _bytes(regex=False)])


# How text is cut before merging, by the name llama.cpp gives it (llama-vocab.cpp, `LLAMA_VOCAB_PRE_TYPE_*`).
CUTS: dict[str, Callable[[], Any]] = {
    "gpt-2": lambda: _bytes(regex=True),
    "llama-bpe": lambda: _split(LLAMA3),
    "qwen2": lambda: _split(LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")),
    "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _bytes(regex=True)]),
}


class GgufFile:
    """The header of a GGUF file, checked against its size."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fields = _fields(path)
        check_family(self.get("general.architecture"), path)

    def get(self, key: str) -> Any:
        """A value of the header, or None."""
        field = self._fields.get(key)
        return None if field is None else field.contents()

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer's two JSON files and, where there is one, the chat template, with ids as they are."""
        kind, cut = self.get("tokenizer.ggml.model"), self.get("tokenizer.ggml.pre")
        if kind != "gpt2" or cut not in CUTS:
            raise InputError(
                f"{self.path}: expected byte-level BPE cut as {', '.join(CUTS)}, found {kind!r} cut as {cut!r}: other "
                "ids than the model was trained on would go unseen. Adopt the model's safetensors folder instead."
            )
        tokens = self.get("tokenizer.ggml.tokens")
        merges = [tuple(merge.split(" ")) for merge in self.get("tokenizer.ggml.merges")]
        bpe = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
        bpe.pre_tokenizer, bpe.decoder = CUTS[cut](), decoders.ByteLevel()
        types = self.get("tokenizer.ggml.token_type")
        for kind, add in ((CONTROL, bpe.add_special_tokens), (USER_DEFINED, bpe.add_tokens)):
            named = [token for token, its in zip(tokens, types, strict=True) if its == kind]
            add([AddedToken(token, normalized=False, special=kind == CONTROL) for token in named])
        bpe.save(str(folder / "tokenizer.json"))
        keys = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
        ids = {f"{ours}_token": self.get(f"tokenizer.ggml.{theirs}_token_id") for ours, theirs in keys.items()}
        config = {name: tokens[number] for name, number in ids.items() if number is not None}
        config |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        template = self.get("tokenizer.chat_template")
        if template is not None:
            (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _fields(path: Path) -> Any:
    """The header's fields, where the file has as many bytes as they say."""
    with path.open("rb") as file:
        start = file.read(24)
    magic, version, tensors, keys = struct.unpack("<4sIQQ", start.ljust(24, b"\0"))
    if magic != b"GGUF" or version not in (2, 3) or tensors > MOST_TENSORS or keys > MOST_KEYS:
        raise InputError(
            f"{path}: expected GGUF version 2 or 3 with at most {MOST_TENSORS:,} tensors and {MOST_KEYS:,} keys, found "
            f"{magic!r}, version {version}, {tensors:,} and {keys:,}. Download the file again."
        )
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise InputError(
            f"{path}: expected the package `gguf` to read it, found none. pip install 'llm-lifecycle[smollm2]'."
        ) from error
    try:
        return GGUFReader(path).fields
    except Exception as error:  # it raises whatever a number that is too large makes numpy raise
        raise InputError(
            f"{path}: expected a whole GGUF file, found one that ends early or is damaged ({type(error).__name__}). "
            "Download the file again."
        ) from error
