"""Keys: the same command finds its job again, and no other command does."""

import re
from pathlib import Path

import pytest

from lifecycle.launch import Launch
from lifecycle.launchers.shape import key_of

MADE_HERE = Path("/store/artifacts/pretrain/2b1c0d9e8f7a6b5c-9f0e1d2c")


def test_a_key_names_stage_and_identity_and_is_the_same_next_time():
    assert key_of(MADE_HERE, "worker").startswith("pretrain-2b1c0d9e8f7a6b5c-9f0e1d2c-")
    assert key_of(MADE_HERE, "worker") == key_of(MADE_HERE, "worker")


def test_another_store_worker_or_identity_is_another_job():
    others = [(Path("/other") / MADE_HERE.relative_to("/store"), "worker"), (MADE_HERE, "second")]
    others.append((MADE_HERE.with_name("2b1c0d9e8f7a6b5c-00000000"), "worker"))
    assert len({key_of(MADE_HERE, "worker"), *(key_of(*other) for other in others)}) == 4


@pytest.mark.parametrize("folder", ["/a/b", f"/{'x' * 80}/{'y' * 80}", "/Stage_Name/Ünicode.1"])
def test_a_key_is_a_name_for_kubernetes(folder):
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", key_of(Path(folder), "worker"))


def test_several_nodes_need_a_launcher_that_has_them():
    with pytest.raises(ValueError, match="expected launcher 'nodes', 'slurm' or 'kubernetes' for 2 nodes, found 'lo"):
        Launch(nodes=2)
