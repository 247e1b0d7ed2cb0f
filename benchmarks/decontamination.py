"""What the n-gram rule finds of short items, and what it flags by mistake: `python -m benchmarks.decontamination`.

Items are cut out of one half of the shipped text and planted in texts of the other half, as they are and with one word
changed. A flag on a text in which nothing is planted is a false one.
"""

import random
from pathlib import Path

from lifecycle.data.decontaminate import NgramRule, found_in, index_items
from lifecycle.data.jsonl import read_lines
from lifecycle.data.words import split_words

PACK = Path(__file__).parent.parent / "lifecycle" / "recipes" / "pack" / "corpus"
LENGTHS = (3, 4, 5, 6, 8, 10, 12, 13, 16, 20, 26, 40)
ITEMS = 400
THRESHOLDS = (8, 13)


def main() -> None:
    """Print recall and false flags by length of item and n."""
    draw = random.Random(0)
    paths = sorted(PACK.glob("*.jsonl.gz"))
    texts = [line.row["text"] for path in paths for line in read_lines(path) if line.row]
    draw.shuffle(texts)
    sources, hosts = [split_words(text) for text in texts[::2]], texts[1::2]
    print(f"{'words of item':>14}", *(f"| n={n}: verbatim  one changed  false flags" for n in THRESHOLDS))
    for length in LENGTHS:
        long_enough = [words for words in sources if len(words) >= length]
        items = []
        for _ in range(ITEMS):
            words = draw.choice(long_enough)
            start = draw.randrange(len(words) - length + 1)
            items.append(words[start : start + length])
        changed = [[*item[: len(item) // 2], "changed", *item[len(item) // 2 + 1 :]] for item in items]
        cells = []
        for n in THRESHOLDS:
            grams = index_items([" ".join(item) for item in items], NgramRule(ngram_words=n))
            already = found_in(grams, hosts, compiled=False)
            clean = [host for number, host in enumerate(hosts) if number not in already]
            recalls = []
            for planted in (items, changed):
                planted_in = [f"{clean[number]} {' '.join(item)}" for number, item in enumerate(planted)]
                recalls.append(len(found_in(grams, planted_in, compiled=False)) / ITEMS)
            cells.append(f"|{recalls[0]:>14.3f}{recalls[1]:>13.3f}{len(already) / len(hosts):>13.4f}")
        print(f"{length:>14}", *cells)


if __name__ == "__main__":
    main()
