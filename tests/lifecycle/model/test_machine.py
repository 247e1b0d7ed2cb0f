"""How much memory a rank has, on machines with and without a GPU."""

import os

from lifecycle.model import machine
from lifecycle.model.machine import memory_of_a_rank


def test_without_a_gpu_ranks_share_the_machine(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(machine, "CGROUP_LIMITS", ())
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory_of_a_rank(2) == (host // 2, "cpu")


def test_a_container_may_have_less_than_its_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "limited").write_text("1048576\n")
    (tmp_path / "unlimited").write_text("max\n")
    monkeypatch.setattr(machine, "CGROUP_LIMITS", (str(tmp_path / "limited"), str(tmp_path / "unlimited")))
    assert memory_of_a_rank(4).bytes == 262_144


def test_the_smallest_gpu_decides(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 81559\necho 40960\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert memory_of_a_rank(8) == (40_960 * 2**20, "cuda")
