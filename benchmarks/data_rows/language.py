"""Language id of whole documents: fastText's lid.176.ftz against py3langid, both given the same text."""

from pathlib import Path

import orjson
import py3langid

from benchmarks.data_rows import Row, compare
from lifecycle.data.language import LanguageModel, LanguageRule

DOCUMENTS = 1_000


def rows(corpus_dir: Path) -> list[Row]:
    """The whole text, and its first 512 characters. Two models cannot be equal: they must agree on 98 of 100 texts."""
    with (corpus_dir / "corpus.jsonl").open("rb") as file:
        texts = [orjson.loads(line)["text"] for line in file][:6841:7][:DOCUMENTS]
    model = LanguageModel(LanguageRule())
    found = []
    for name, some in (("whole text", texts), ("512 characters", [text[:512] for text in texts])):
        agreed = sum(a.code == py3langid.classify(b)[0] for a, b in zip(model.identify(some), some, strict=True))
        print(f"language id, {name}: {agreed} of {len(some)} the same")
        assert agreed >= 0.98 * len(some)
        megabytes = sum(len(text.encode()) for text in some) / 1e6
        found.append(
            compare(
                f"language id, {name} | py3langid",
                lambda some=some: list(model.identify(some)),
                lambda some=some: [py3langid.classify(text) for text in some],
                megabytes=megabytes,
                at_least=5,
            )
        )
    return found
