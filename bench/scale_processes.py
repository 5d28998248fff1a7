"""Memory and CPU time of processes, as Linux counts them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int) -> int:
    """Return the memory of a process, bytes: its private pages and its part of shared ones."""
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far, s."""
    user, system = _stat(pid)[11:13]
    return (int(user) + int(system)) * _TICK_S


def children(pid: int) -> dict[int, str]:
    """Return the title of each process that descends from one, by its id."""
    parents, titles = {}, {}
    for process in _pids():
        with contextlib.suppress(OSError):
            parents[process] = int(_stat(process)[1])
            words = (PROC / str(process) / "cmdline").read_bytes().split(b"\0")
            titles[process] = b" ".join(words).decode(errors="replace").strip()
    found, new = set[int](), {pid}
    while new:
        new = {process for process, parent in parents.items() if parent in new} - found
        found |= new
    return {process: titles[process] for process in found if process in titles}


def free_bytes() -> int:
    """Return how much memory the machine has left, bytes."""
    for line in (PROC / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _pids() -> Iterator[int]:
    return (int(path.name) for path in PROC.glob("[0-9]*"))


def _stat(pid: int) -> list[str]:
    """Return the fields of `stat` after the name: state, parent and so on."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def session(leader: int) -> dict[int, str]:
    """Return the title of each process of a session."""
    found = {}
    for process in _pids():
        with contextlib.suppress(OSError):
            if int(_stat(process)[3]) == leader:
                words = (PROC / str(process) / "cmdline").read_bytes().split(b"\0")
                found[process] = b" ".join(words).decode(errors="replace").strip()
    return found
