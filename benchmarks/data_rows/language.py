"""Language id by fastText's lid.176.ftz, against fastText itself and py3langid: the same text to all."""

import importlib
from collections.abc import Callable
from pathlib import Path

import orjson
import py3langid

from benchmarks.data_rows import Row, compare
from lifecycle.data.language import Language, LanguageModel, LanguageRule

DOCUMENTS = 1_000


def rows(corpus_dir: Path) -> list[Row]:
    """Whole texts, and their first 512 characters. The same model must agree on all, another one on 98 of 100."""
    with (corpus_dir / "corpus.jsonl").open("rb") as file:
        texts = [orjson.loads(line)["text"] for line in file][:6841:7][:DOCUMENTS]
    model = LanguageModel(LanguageRule())
    fasttext = importlib.import_module("fasttext").load_model(str(model.path))

    def by_fasttext(text: str) -> Language:
        labels, scores = fasttext.predict(text.replace("\n", " "))
        return Language(labels[0].removeprefix("__label__"), float(scores[0]))

    def by_py3langid(text: str) -> Language:
        return Language(*py3langid.classify(text))

    peers: list[tuple[str, Callable[[str], Language], float, float]] = [
        ("fasttext, the same model", by_fasttext, 1.0, 3),
        ("py3langid", by_py3langid, 0.98, 5),
    ]
    found = []
    for name, some in (("whole text", texts), ("512 characters", [text[:512] for text in texts])):
        ours = list(model.identify(some))
        for peer, says, at_least_same, at_least in peers:
            agreed = sum(mine.code == says(text).code for mine, text in zip(ours, some, strict=True))
            print(f"language id, {name}: {agreed} of {len(some)} the same as {peer}")
            assert agreed >= at_least_same * len(some)
            found.append(
                compare(
                    f"language id, {name} | {peer}",
                    lambda some=some: list(model.identify(some)),
                    lambda some=some, says=says: [says(text) for text in some],
                    megabytes=sum(len(text.encode()) for text in some) / 1e6,
                    at_least=at_least,
                )
            )
    return found
