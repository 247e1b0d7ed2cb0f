"""Conversations to ids and masks for SFT, against `datasets.map` with the same renderer, one by one.

`python -m benchmarks.data_rows.sft_rows ROWS` prepares so many short conversations and prints the peak of memory.

Both read the same JSON Lines and leave ids and masks on disk. Ours also checks every row against the laws of
`chat.parity`; the peer checks none. First every id and every mask of both is shown to be the same.
"""

import random
import resource
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import numpy as np
import orjson

from benchmarks.data_rows import Row, compare
from lifecycle.chat.folder import save_tokenizer
from lifecycle.chat.protocol import SPECIAL_TOKENS
from lifecycle.chat.render import Renderer, load_renderer
from lifecycle.data.bpe import train_bpe
from lifecycle.data.conversations import fault_of_demonstration
from lifecycle.data.jsonl import load_rows, read_lines
from lifecycle.training.prepared import prepare

ROWS, MAX_SEQ_LEN, AT_LEAST = 30_000, 2_048, 5
SYSTEM = ("You are a helpful assistant.", "Answer briefly.", "You answer questions about software packages.")


def rows(corpus_dir: Path) -> list[Row]:
    """One row: so many short conversations of the shipped text's words."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = [row["text"] for row in load_rows(corpus_dir / "corpus.jsonl")]
        renderer, file = make(folder, texts, ROWS)
        prove(renderer, file, folder)
        number = count()
        return [
            compare(
                f"conversations to ids and masks | datasets.map, {ROWS:,}",
                lambda: prepare(renderer, file, folder / f"ours-{next(number)}", max_seq_len=MAX_SEQ_LEN),
                lambda: by_map(renderer, file, folder / f"theirs-{next(number)}"),
                megabytes=file.stat().st_size / 1e6,
                at_least=AT_LEAST,
            )
        ]


def make(folder: Path, texts: list[str], size: int) -> tuple[Renderer, Path]:
    """A tokenizer of 16,384 ids, and conversations of 20 to 120 words: every third with a system turn, every fourth of
    two questions."""
    if not (folder / "bpe").is_dir():
        bpe = train_bpe(texts, vocab_size=16_384, special_tokens=SPECIAL_TOKENS, max_digits_per_token=3)
        save_tokenizer(bpe, folder / "bpe")
    draw, words = random.Random(0), [word for text in texts[:3_000] for word in text.split()]

    def words_of(least: int, most: int) -> str:
        start = draw.randrange(len(words) - most)
        return " ".join(words[start : start + draw.randint(least, most)])

    file = folder / f"rows-{size}.jsonl"
    with file.open("wb") as out:
        for number in range(size):
            messages = [{"role": "system", "content": SYSTEM[number % 3]}] if number % 3 == 0 else []
            for _ in range(1 + (number % 4 == 0)):
                messages.append({"role": "user", "content": words_of(5, 40)})
                messages.append({"role": "assistant", "content": words_of(5, 40)})
            row = {"id": f"r{number}", "source": f"s{number % 3}", "messages": messages}
            out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return load_renderer(folder / "bpe"), file


def by_map(renderer: Renderer, file: Path, folder: Path) -> object:
    """`datasets.map` of a function that validates and renders one row, as most SFT programs do."""
    import datasets

    datasets.disable_progress_bars()

    def render(row: dict[str, object]) -> dict[str, list[int]]:
        if fault := fault_of_demonstration(row):
            raise ValueError(fault)
        rendered = renderer.render(row["messages"])
        return {"input_ids": rendered.ids, "assistant_masks": rendered.assistant_mask}

    found = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(folder))
    return found.map(render, remove_columns=found.column_names, load_from_cache_file=False)


def prove(renderer: Renderer, file: Path, folder: Path) -> None:
    """Every id and mask is what one by one gives, and what the peer has."""
    ours, theirs = (
        prepare(renderer, file, folder / "ours", max_seq_len=MAX_SEQ_LEN),
        by_map(renderer, file, folder / "t"),
    )
    for number, (row, messages) in enumerate(zip(ours.rows, load_rows(file), strict=True)):
        rendered = renderer.render(messages["messages"])
        if (row.ids, row.assistant_mask) != (rendered.ids, rendered.assistant_mask):
            raise SystemExit(f"row {number}: expected what the renderer gives, found other ids or another mask")
    for name, own in (("input_ids", ours.ids), ("assistant_masks", ours.mask)):
        column = theirs.with_format("arrow")[:][name].combine_chunks()
        if not np.array_equal(column.flatten().to_numpy(), own):
            raise SystemExit(f"expected the peer to have the same {name}, found others")
    print(f"identical ids and masks in {len(ours.rows)} conversations, {len(ours.ids)} tokens")


def main() -> None:
    """Peak memory and seconds of one preparation, in a process of its own."""
    size = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(__file__).parents[2] / "lifecycle" / "recipes" / "pack" / "corpus"
        files = sorted(corpus.glob("*.jsonl.gz"))
        texts = [line.row["text"] for path in files for line in read_lines(path) if line.row]
        renderer, file = make(Path(name), texts, size)
        del texts
        prepare(renderer, make(Path(name), ["a b"] * 99, 1)[1], Path(name) / "first", max_seq_len=MAX_SEQ_LEN)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start, wall = time.process_time(), time.perf_counter()
        found = prepare(renderer, file, Path(name) / "out", max_seq_len=MAX_SEQ_LEN)
        used = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{size:,} conversations, {len(found.ids):,} tokens, {file.stat().st_size / 1e6:.0f} MB: {used:.1f} s "
            f"of CPU time ({time.perf_counter() - wall:.1f} s), peak {peak:.0f} MiB, {before:.0f} MiB before it started"
        )


if __name__ == "__main__":
    main()
