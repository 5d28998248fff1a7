"""Whether a process on a GPU belongs to this run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")


def foreign_processes(pids: Iterable[int], folder: Path, proc: Path = _PROC) -> frozenset[int]:
    """Return the processes that are not of a replica of this run.

    A replica's engine maps its control block, a file in the folder of the run; its workers are
    children of a process that does. A process that is not visible here (in a container, NVML may
    answer with numbers of the host) is left out: it may be an engine of ours.

    Args:
        pids: The processes.
        folder: Where the control blocks of this node lie.
        proc: The kernel's folder of processes.
    """
    visible = (pid for pid in pids if (proc / str(pid)).exists())
    return frozenset(pid for pid in visible if not _is_own(pid, folder, proc))


def _is_own(pid: int, folder: Path, proc: Path) -> bool:
    while pid > 1:
        if _maps_block(pid, folder, proc):
            return True
        pid = _parent(pid, proc)
    return False


def _maps_block(pid: int, folder: Path, proc: Path) -> bool:
    try:
        return f"{folder}/" in (proc / str(pid) / "maps").read_text()
    except OSError:  # of another user, or gone
        return False


def _parent(pid: int, proc: Path) -> int:
    try:
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[1])
