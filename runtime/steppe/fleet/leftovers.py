"""Files in memory: where those of a run go, and what dead runs have left there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_GPUS, _RUN, _SEMAPHORE = "steppe-gpus-", "steppe-run-", "sem.mp-"


def state_folder() -> Path:
    """Return where files in memory go."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else Path(tempfile.gettempdir())


def gpus_file(owner: str) -> Path:
    """Return the state file of the emulated GPUs of a process or a node."""
    return state_folder() / f"{_GPUS}{owner}"


def run_folder(run_id: str, node_id: str) -> Path:
    """Return the folder of a run on a node; a run is named by the process that drives it."""
    return state_folder() / f"{_RUN}{run_id}-{node_id[:8]}"


def sweep_leftovers(folder: Path, processes: Path = Path("/proc")) -> tuple[Path, ...]:
    """Remove what runs left that could not clean up, and return what was removed.

    A file or folder is in use while the process in its name lives, or while a process has it
    mapped or on its command line: engines, node actors and agents do. A killed engine also
    leaves named semaphores of Python's multiprocessing; whoever uses one has it mapped.

    Args:
        folder: Where files in memory go.
        processes: Where the kernel lists processes.
    """
    orphans = [
        path
        for path in folder.iterdir()
        if path.name.startswith((_GPUS, _RUN, _SEMAPHORE))
        and path.stat().st_uid == os.geteuid()
        and not _belongs_to_the_living(path, processes)
    ]
    if not orphans:
        return ()
    in_use = "".join(_what_is_used(processes))
    removed = tuple(path for path in orphans if str(path) not in in_use)
    for path in removed:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return removed


def _belongs_to_the_living(path: Path, processes: Path) -> bool:
    _, kind, *owner = path.name.split("-")
    return kind in ("gpus", "run") and (processes / owner[0]).exists()


def _what_is_used(processes: Path) -> Iterator[str]:
    """Yield the mapped files and the command line of each process that we may look at."""
    for process in processes.glob("[0-9]*"):
        for name in ("maps", "cmdline"):
            try:
                yield (process / name).read_text(errors="replace")
            except OSError:
                continue  # it has ended, or it belongs to somebody else
