"""Reads data sets of a hub on loopback, as `python hub_reading.py FOLDER`, and prints what it found as JSON.

A process of its own: the hub's client reads its address and its cache from the environment when it is imported.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from hub import hub

REVISION = "a" * 40


def main(folder: Path) -> dict[str, object]:
    os.environ.update(HF_HOME=str(folder / "cache"), HF_HUB_OFFLINE="0", HF_DATASETS_OFFLINE="0")
    with hub(folder / "hub", REVISION) as endpoint:
        os.environ["HF_ENDPOINT"] = endpoint
        from lifecycle.data.documents import Source
        from lifecycle.data.sources.places import HubDataset
        from lifecycle.data.sources.shards import read_shard, shards_of
        from lifecycle.errors import InputError

        def read(repository: str, revision: str = REVISION, **said: str) -> object:
            place = HubDataset(repository=repository, revision=revision, **said)
            source = Source(name="sea", path=place, licence="CC0-1.0")
            try:
                return [[list(found) for found in read_shard(shard)] for shard in shards_of(source)]
            except InputError as error:
                return str(error)

        found: dict[str, object] = {
            "parquet": read("org/parquet", config="all"),
            "json": read("org/json"),
            "no such config": read("org/parquet", config="other"),
            "no such split": read("org/json", split="dev"),
            "no such revision": read("org/json", revision="b" * 40),
            "broken": read("org/parquet", config="broken"),
        }
        import datasets

        datasets.load_dataset("hf://datasets/org/json", revision=REVISION)  # now it is in the cache
        shutil.rmtree(folder / "hub/org/json")
        found["no longer there"] = read("org/json", revision="c" * 40)
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
