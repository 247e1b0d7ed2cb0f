"""What looks at all documents looks at numbers: so many bytes each, and no text."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lifecycle.data.catalogue import Catalogue
from lifecycle.data.clean_shards import NUMBERS, CleanShard
from lifecycle.data.documents import Source
from lifecycle.data.duplicates import drop_repeated_ids, find_copies
from lifecycle.data.funnel import Funnel
from lifecycle.data.mixture import Mixture, mix
from lifecycle.data.selection import Selection
from lifecycle.data.split import hold_out

DOCUMENTS = 240_000  # 88 bytes each at a million; what does not grow with them is less than 3 MB
BYTES_PER_DOCUMENT = 105


@pytest.fixture
def shards(tmp_path: Path) -> list[CleanShard]:
    """The numbers of two sources of two shards, a tenth of their texts copies; the texts themselves do not exist."""
    draw = np.random.default_rng(0)
    made = []
    for number in range(4):
        rows = np.empty(DOCUMENTS // 4, NUMBERS)
        rows["id"] = draw.integers(0, 2**64, (len(rows), 2), dtype=np.uint64)
        rows["text"] = draw.integers(0, 2**64, (len(rows), 2), dtype=np.uint64)
        rows["text"][: len(rows) // 10] = rows["text"][-(len(rows) // 10) :]
        rows["place"] = draw.integers(0, 2**64, len(rows), dtype=np.uint64)
        rows["bytes"] = rows["characters"] = draw.integers(1, 10_000, len(rows))
        np.save(tmp_path / f"{number}.npy", rows)
        made.append(CleanShard(number, number // 2, len(rows), tmp_path / "none", tmp_path / f"{number}.npy"))
    return made


def test_the_steps_on_all_documents_take_a_bounded_number_of_bytes_for_each(shards, tmp_path):
    sources = [Source(name=name, path=tmp_path, licence="CC0-1.0", weight=1, max_epochs=2) for name in ("sea", "land")]
    funnel = Funnel(["sea", "land"], samples_per_reason=0)
    tracemalloc.start()
    try:
        selection = Selection(Catalogue(shards, tmp_path), funnel.sources, funnel)
        drop_repeated_ids(selection)
        cluster = find_copies(selection, drop=True)
        held_out, _ = hold_out(selection, cluster, share=0.01)
        _, facts = mix(selection, sources, Mixture(), held_out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (selection.catalogue.is_in.sum(), held_out.sum()) == (0.9 * DOCUMENTS, 0.009 * DOCUMENTS)
    assert [round(source.share, 3) for source in facts.sources.values()] == [0.5, 0.5]
    assert peak <= BYTES_PER_DOCUMENT * DOCUMENTS, f"{peak / DOCUMENTS:.0f} bytes a document"


def test_documents_are_numbered_through_sources_and_shards(shards, tmp_path):
    catalogue = Catalogue(shards, tmp_path)
    assert len(catalogue) == DOCUMENTS
    assert catalogue.of_source(1)[0] == DOCUMENTS // 2
    catalogue.is_in[DOCUMENTS // 2] = False
    assert catalogue.of_source(1)[0] == DOCUMENTS // 2 + 1
    assert catalogue.of_source(1, is_in=False).tolist() == [DOCUMENTS // 2]
    readers = catalogue.readers(documents=40_000, size=10**12)
    assert [len(reader.documents) for reader in readers] == [
        40_000,
        20_000,
        40_000,
        20_000,
        39_999,
        20_000,
        40_000,
        20_000,
    ]
    assert np.concatenate([reader.documents for reader in readers]).tolist() == catalogue.documents().tolist()


def test_small_neighbouring_shards_are_read_as_one(shards, tmp_path):
    catalogue = Catalogue(shards, tmp_path)
    whole = int(catalogue.sizes.sum(dtype=np.int64))
    assert [len(catalogue.readers(documents=DOCUMENTS, size=size)) for size in (whole, whole - 1, 1)] == [1, 2, 4]
