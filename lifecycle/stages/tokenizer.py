"""A tokenizer fitted to the corpus, bound to the chat template it will be used with everywhere."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from lifecycle import contracts, progress
from lifecycle.artifacts import Corpus, Tokenizer
from lifecycle.chat.protocol import SPECIAL_TOKENS, save_tokenizer
from lifecycle.data.bpe import train_bpe
from lifecycle.data.jsonl import load_rows
from lifecycle.sealing import StageConfig

BYTES = 256


class TokenizerConfig(StageConfig):
    """How the vocabulary is learned. Only training documents are read: validation text must not shape the tokens."""

    stage: ClassVar[str] = "tokenizer"
    vocab_size: int = Field(
        2048, ge=BYTES + len(SPECIAL_TOKENS), description="Ids at most: special tokens, 256 bytes, then merges."
    )
    max_digits_per_token: int = Field(3, ge=1, le=9, description="Longest run of digits in a token; GPT-4 uses 3.")


def train_tokenizer(config: TokenizerConfig, corpus: Corpus, *, out_dir: Path) -> Tokenizer:
    """Learn byte-level BPE merges from the training documents and save them with the chat template."""
    contracts.has_documents(corpus)
    progress.report(0, corpus.train_documents, "documents", "learning merges")
    bpe = train_bpe(
        (row["text"] for row in load_rows(corpus.train_file)),
        vocab_size=config.vocab_size,
        special_tokens=SPECIAL_TOKENS,
        max_digits_per_token=config.max_digits_per_token,
    )
    protocol = save_tokenizer(bpe, out_dir)
    return Tokenizer(
        path=out_dir,
        vocab_size=bpe.get_vocab_size(),
        bos_id=protocol.bos_id,
        pad_id=protocol.pad_id,
        stop_id=protocol.stop_id,
        protocol_digest=protocol.digest,
    ).seal(config, corpus)
