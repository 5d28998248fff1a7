from __future__ import annotations

import mmap
import os
import subprocess
from pathlib import Path

from steppe.fleet.node.gpu_processes import foreign_processes


def make_process(proc: Path, pid: int, parent: int, maps: str | None) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} (a (b) c) S {parent} 1 1 0")
    if maps is not None:
        (folder / "maps").write_text(maps)


def test_a_process_that_maps_a_block_and_its_children_are_ours(tmp_path: Path) -> None:
    proc, folder = tmp_path / "proc", tmp_path / "run"
    make_process(proc, 10, 1, f"7f0-7f1 rw-s 0 00:01 12 {folder}/replica-1.block\n")
    make_process(proc, 11, 10, "7f0-7f1 r-xp 0 00:01 12 /usr/bin/python\n")
    make_process(proc, 12, 11, None)
    make_process(proc, 20, 1, f"7f0-7f1 rw-s 0 00:01 12 {folder}-other/replica-1.block\n")
    make_process(proc, 21, 20, None)
    found = foreign_processes([10, 11, 12, 20, 21], folder, proc)
    assert found == {20, 21}


def test_a_process_that_cannot_be_seen_here_is_left_out(tmp_path: Path) -> None:
    make_process(tmp_path, 20, 1, "")
    assert foreign_processes([20, 4711], tmp_path / "run", tmp_path) == {20}


def test_the_first_process_of_a_host_is_not_ours(tmp_path: Path) -> None:
    make_process(tmp_path, 1, 0, "")
    assert foreign_processes([1], tmp_path / "run", tmp_path) == {1}


def test_real_processes_are_distinguished(tmp_path: Path) -> None:
    block = tmp_path / "replica-1.block"
    block.write_bytes(bytes(4096))
    with block.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        child = subprocess.Popen(["sleep", "60"])
        try:
            assert foreign_processes([os.getpid(), child.pid], tmp_path) == frozenset()
            assert foreign_processes([child.pid], tmp_path / "elsewhere") == {child.pid}
        finally:
            child.kill()
            child.wait()
