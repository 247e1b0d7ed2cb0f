"""Files of fastText classifiers: kinds that lid.176.ftz is not, and what is refused."""

import importlib
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from lifecycle.data.fasttext_model import HIERARCHICAL, SOFTMAX, fnv1a, read_classifier
from lifecycle.data.language import LanguageModel, LanguageRule, model_path
from lifecycle.errors import InputError

DIMENSIONS, BUCKETS = 5, 40
WORDS, LABELS = {b"</s>": 9, b"sea": 5, b"whale": 2}, {b"en": 50, b"de": 30, b"fr": 30, b"it": 2}


def write_model(path: Path, *, loss: int, word_grams: int = 1) -> Path:
    """An unquantised classifier of four languages with weights drawn at random, as fastText's saveModel writes it."""
    settings = (DIMENSIONS, 5, 5, 1, 5, word_grams, loss, 3, BUCKETS, 2, 4, 100)
    entries = [(word, count, 0) for word, count in WORDS.items()]
    entries += [(b"__label__" + label, count, 1) for label, count in LABELS.items()]
    data = struct.pack("<2i12id", 793712314, 12, *settings, 1e-4)
    data += struct.pack("<3i2q", len(entries), len(WORDS), len(LABELS), 128, -1)
    data += b"".join(word + b"\0" + struct.pack("<qb", count, kind) for word, count, kind in entries)
    draw = np.random.default_rng(0)
    for rows in (len(WORDS) + BUCKETS, len(LABELS)):
        matrix = draw.normal(size=(rows, DIMENSIONS)).astype(np.float32)
        data += struct.pack("<?2q", False, *matrix.shape) + matrix.tobytes()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("loss", [HIERARCHICAL, SOFTMAX])
def test_an_unquantised_model_says_what_it_says_in_fasttext(tmp_path, loss):
    path = write_model(tmp_path / "small.bin", loss=loss)
    reference, model = (
        importlib.import_module("fasttext").load_model(str(path)),
        LanguageModel(LanguageRule(model=path)),
    )
    draw = random.Random(0)
    texts = [
        " ".join(draw.choices(["sea", "whale", "Wal", "mer", "été", "x"], k=draw.randrange(9))) for _ in range(200)
    ]
    assert len({found.code for found in model.identify(texts)}) > 1
    for text, found in zip(texts, model.identify(texts), strict=True):
        labels, scores = reference.predict(text)
        assert (found.code, found.score) == (labels[0][9:], pytest.approx(min(1.0, scores[0]), abs=1e-5)), text


def test_the_hash_takes_bytes_as_signed():
    assert fnv1a(b"a") == 0xE40C292C  # FNV-1a of 32 bits, as published
    assert fnv1a(b"\xff") == ((2166136261 ^ 0xFFFFFFFF) * 16777619) & 0xFFFFFFFF


def test_what_is_no_classifier_or_another_kind_is_refused(tmp_path):
    cut = tmp_path / "cut.ftz"
    cut.write_bytes(model_path(LanguageRule()).read_bytes()[:100_000])
    with pytest.raises(
        InputError, match=r"expected a fastText classifier .* found a file that ends .* Use lid.176.ftz"
    ):
        read_classifier(cut)
    text = tmp_path / "text.ftz"
    text.write_bytes(b"no model at all")
    with pytest.raises(InputError, match=r"found b'no model' at its start"):
        read_classifier(text)
    with pytest.raises(InputError, match=r"wordNgrams 2"):
        read_classifier(write_model(tmp_path / "two.bin", loss=SOFTMAX, word_grams=2))
