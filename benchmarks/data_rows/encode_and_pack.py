"""JSONL to token rows on disk, against datatrove's DocumentTokenizer, with one tokenizer of 16,384 ids.

Every repeat of ours starts with an empty table of pieces. The peer neither shuffles nor packs; ours does both.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import orjson
import tokenizers

from benchmarks.data_rows import Row, compare
from lifecycle.chat.folder import save_tokenizer
from lifecycle.chat.protocol import BOS, SPECIAL_TOKENS, load_tokenizer
from lifecycle.data.bpe import train_bpe
from lifecycle.data.encoding import Encoder, Text, in_batches
from lifecycle.data.jsonl import Lines
from lifecycle.data.layout import PIECE, Concatenated, Segments
from lifecycle.data.order import shuffled
from lifecycle.data.packing import RowWriter

VOCAB_SIZE, MAX_SEQ_LEN, AT_LEAST = 16_384, 2048, 4


def rows(corpus_dir: Path) -> list[Row]:
    """One row for the whole input, and one for its first quarter, the shipped text, in which most pieces are new."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, shipped = corpus_dir / "corpus.jsonl", folder / "shipped.jsonl"
        lines = whole.read_bytes().splitlines(keepends=True)
        shipped.write_bytes(b"".join(line for line in lines if line.startswith(b'{"id":"0/')))
        texts = [orjson.loads(line)["text"] for line in lines]
        bpe = train_bpe(texts, vocab_size=VOCAB_SIZE, special_tokens=SPECIAL_TOKENS, max_digits_per_token=3)
        save_tokenizer(bpe, folder / "bpe")
        tokenizer = load_tokenizer(folder / "bpe")
        start = time.process_time()
        pack(shipped, tokenizer, folder / "first")
        print(
            f"first call, with imports and compiling or loading what was compiled: {time.process_time() - start:.1f} s"
        )
        prove(whole, tokenizer, folder)
        return [
            compare(
                f"encode and pack | datatrove, {label}",
                run(pack, file, tokenizer, folder),
                run(datatrove, file, folder / "bpe" / "tokenizer.json", folder),
                megabytes=sum(len(orjson.loads(line)["text"].encode()) for line in file.open("rb")) / 1e6,
                at_least=AT_LEAST,
            )
            for label, file in (("input of all steps", whole), ("shipped text once", shipped))
        ]


def run(work: Callable[..., object], *arguments: object) -> Callable[[], object]:
    """The call, in a new folder each time."""
    *most, folder = arguments
    number = count()
    return lambda: work(*most, Path(str(folder)) / f"{work.__name__}-{id(number)}-{next(number)}")


def pack(file: Path, tokenizer: tokenizers.Tokenizer, folder: Path) -> RowWriter:
    """As the shards stage does it: by line in shuffled order, encoded, cut into rows, written with their boundaries."""
    folder.mkdir()
    lines = Lines(file)
    order = shuffled(np.arange(len(lines)), len(lines), "documents", 0).tolist()
    texts: Iterator[Text] = (Text(line, "", lines[line]["text"]) for line in order)
    packing = Concatenated(MAX_SEQ_LEN, "uint16")
    writer = RowWriter(folder, (f"train-{n:05d}.bin" for n in count()), packing, rows_per_shard=65_536)
    encoder = Encoder(tokenizer, bos_id=0, fast=True, threads=1)
    for batch, encoded in encoder.encode(in_batches(texts)):
        documents = np.array([text.line for text in batch], np.int64)
        writer.write(Segments.whole(encoded.ids.astype("uint16"), encoded.lengths, documents))
    writer.close()
    return writer


def datatrove(file: Path, tokenizer: Path, folder: Path) -> None:
    """JsonlReader and DocumentTokenizer."""
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.utils.logging import logger

    logger.remove()
    reader = JsonlReader(str(file.parent), glob_pattern=file.name, file_progress=False, doc_progress=False)
    step = DocumentTokenizer(
        str(folder), str(tokenizer), eos_token=BOS, shuffle_documents=False, save_final_metadata=False
    )
    step.run(reader.run())


def prove(file: Path, tokenizer: tokenizers.Tokenizer, folder: Path) -> None:
    """The ids of every document are the same."""
    writer = pack(file, tokenizer, folder / "ours")
    ours: dict[int, list[int]] = {}
    for shard in writer.shards:
        stored = np.fromfile(folder / "ours" / shard.file, "<u2").reshape(-1, MAX_SEQ_LEN)
        pieces = np.fromfile((folder / "ours" / shard.file).with_suffix(".pieces"), PIECE)
        for row, start, tokens, _, document in pieces.tolist():
            ours.setdefault(document, []).extend(stored[row, start : start + tokens].tolist())
    at = 0
    for document, tokens in zip(writer.packing.tail.documents, writer.packing.tail.tokens, strict=True):
        ours.setdefault(int(document), []).extend(writer.packing.tail.ids[at : at + int(tokens)].tolist())
        at += int(tokens)
    datatrove(file, folder / "bpe" / "tokenizer.json", folder / "theirs")
    (data,) = (folder / "theirs").glob("*.ds")
    ids, ends = np.fromfile(data, "<u2"), np.fromfile(f"{data}.index", "<u8").astype(np.int64)
    theirs = np.split(ids, ends[:-1])
    # Ours has its special token in front, theirs behind.
    different = [n for n, own in enumerate(theirs) if ours[n][1:] != own[:-1].tolist()]
    print(f"identical ids in {len(theirs) - len(different)} of {len(theirs)} documents, {len(ids)} tokens")
    if different or len(theirs) != len(ours):
        raise SystemExit(f"expected the same ids, found others in documents {different[:5]}")
