"""Files in memory: where those of a run go, and what dead runs have left there."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from steppe.agent.lease_file import read_lease_file
from steppe.errors import AgentError

LEASE_FILE = "lease.json"
"""Where, in the folder of a run, its agent writes down the limits that it sets."""
UNDO_S = 10.0
"""How long undoing the limits of a dead run may take, s."""

_GPUS, _RUN, _SEMAPHORE = "steppe-gpus-", "steppe-run-", "sem.mp-"
_GPUS_OF_NODE = f"{_GPUS}node-"

_log = logging.getLogger(__name__)


def state_folder() -> Path:
    """Return where files in memory go."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else Path(tempfile.gettempdir())


def gpus_file(process: int) -> Path:
    """Return the state file of emulated GPUs whose run ends with a process of this host."""
    return state_folder() / f"{_GPUS}{process}"


def gpus_file_of_node(node_id: str) -> Path:
    """Return the state file of emulated GPUs of a node that a process elsewhere may drive."""
    return state_folder() / f"{_GPUS_OF_NODE}{node_id[:8]}"


def run_folder(run_id: str, node_id: str) -> Path:
    """Return the folder of a run on a node; its name begins with the process that drives it."""
    return state_folder() / f"{_RUN}{run_id}-{node_id[:8]}"


def hold(folder: Path) -> int:
    """Make the folder of a run, and keep it from being swept while this process lives.

    Who shares our memory from another container sees no process of ours, but this lock.
    Returns the open folder.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    return held


def remove_stale_runs(
    folder: Path, processes: Path = Path("/proc"), ended: int | None = None
) -> tuple[Path, ...]:
    """Remove what runs left that could not clean up, and return what was removed.

    Nothing is removed whose name has a process that lives, nor the folder of a node that lives, be
    it in another container. Beyond that, emulated GPUs of a process of this host are over with
    it; all else is in use while a process has it mapped or on its command line, as engines, node
    actors and agents do. A killed engine also leaves named semaphores of Python's multiprocessing,
    which its like have mapped.

    A run that was killed with its agent left its limits on the GPUs. They are undone first; its
    folder stays while they cannot be.

    Args:
        folder: Where files in memory go.
        processes: Where the kernel lists processes.
        ended: A process that lives although its run is over.
    """
    orphans = [
        path
        for path in folder.iterdir()
        if path.name.startswith((_GPUS, _RUN, _SEMAPHORE))
        and _is_ours(path)
        and not _is_owned(path, processes, ended)
    ]
    if not orphans:
        return ()
    in_use = "".join(_what_is_used(processes))
    over = [path for path in orphans if _ends_with_its_owner(path) or str(path) not in in_use]
    # Emulated GPUs go before the folder of their run, for their limits are void without them.
    return tuple(path for path in sorted(over) if _remove(path))


def remove_run(folder: Path) -> bool:
    """Remove the folder of a run; tell whether it is gone, for limits that it names may stay."""
    if not _are_undone(folder / LEASE_FILE):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _remove(path: Path) -> bool:
    if path.is_dir():
        return remove_run(path)
    path.unlink(missing_ok=True)
    return True


def _are_undone(lease_file: Path) -> bool:
    """Undo what a dead agent left, and tell whether nothing is left.

    Another process does it: one that has asked the real driver can see no emulated GPUs any more.
    """
    undo = [sys.executable, "-m", "steppe.agent.server", "--undo", "--lease-file", str(lease_file)]
    try:
        if not read_lease_file(lease_file):
            return True
        said = subprocess.run(undo, capture_output=True, text=True, timeout=UNDO_S, check=False)
        if not read_lease_file(lease_file):
            return True
        why = " ".join(said.stderr.split())[-500:]
    except (AgentError, OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    _log.warning("limits of a dead run stay, see %s: %s", lease_file, why)
    return False


def _is_ours(path: Path) -> bool:
    """Tell whether a file is of this user and still there: others sweep, too."""
    try:
        return path.stat().st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def _is_owned(path: Path, processes: Path, ended: int | None) -> bool:
    """Tell whether the process in the name of a file or folder still needs it."""
    if not path.name.startswith((_GPUS, _RUN)):
        return False
    owner = path.name.split("-")[2]
    return (owner != str(ended) and (processes / owner).exists()) or _is_held(path)


def _is_held(path: Path) -> bool:
    """Tell whether a node of any container holds a folder."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False  # it is a file, or somebody else has removed it
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(folder)
    return False


def _ends_with_its_owner(path: Path) -> bool:
    return path.name.startswith(_GPUS) and not path.name.startswith(_GPUS_OF_NODE)


def _what_is_used(processes: Path) -> Iterator[str]:
    """Yield the mapped files and the command line of each process that we may look at."""
    for process in processes.glob("[0-9]*"):
        for name in ("maps", "cmdline"):
            try:
                yield (process / name).read_text(errors="replace")
            except OSError:
                continue  # it has ended, or it belongs to somebody else
