"""The files of a run in memory, and the removal of those that dead runs left there."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from steppe.agent.lease_file import read_lease_file
from steppe.errors import AgentError

LEASE_FILE = "lease.json"
"""Name, in the folder of a run, of the file in which its agent records the limits it sets."""
UNDO_S = 10.0
"""How long undoing the limits of a dead run may take, s."""

_GPUS, _RUN, _SEMAPHORE = "steppe-gpus-", "steppe-run-", "sem.mp-"
_DRIVERS = "-drivers"
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
    """Return the state file of emulated GPUs of a node whose driver may run on another host."""
    return state_folder() / f"{_GPUS_OF_NODE}{node_id[:8]}"


def new_run_id(process: int) -> str:
    """Return a name for a run that ends with a process of this host."""
    # Processes in containers that share /dev/shm may all have the same id.
    return f"{process}-{secrets.token_hex(4)}"


def run_folder(run_id: str, node_id: str) -> Path:
    """Return the folder of a run on a node; its name begins with the id of the driver's process."""
    return state_folder() / f"{_RUN}{run_id}-{node_id[:8]}"


def gcs_folder(run_id: str) -> Path:
    """Return the folder of the tables of the GCS of a run, if they outlive it."""
    return state_folder() / f"{_RUN}{run_id}-gcs"


def drivers_folder(run_id: str) -> Path:
    """Return the folder that the drivers of a run share, if it has a standby."""
    return state_folder() / f"{_RUN}{run_id}{_DRIVERS}"


def hold(folder: Path) -> int:
    """Make the folder of a run, and protect it from removal while this process is alive.

    Processes in another container that shares this memory cannot see this process, but its lock.
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

    Files whose name has the id of a live process stay, as do those of a run with a live driver, and
    the folder of a live node, even in another container. State files of emulated GPUs on this host
    are stale as soon as all these are dead; all other files are in use while a process has them
    mapped or on its command line, as engines, node actors and agents do. A killed engine also
    leaves named semaphores of Python's multiprocessing, which live engines have mapped.

    A run that was killed with its agent left its limits on the GPUs. They are undone first; if
    that fails, its folder stays.

    Args:
        folder: Where files in memory go.
        processes: Where the kernel lists processes.
        ended: A process that is alive although its run is over.
    """
    candidates = [
        path
        for path in folder.iterdir()
        if path.name.startswith((_GPUS, _RUN, _SEMAPHORE))
        and _is_ours(path)
        and not _is_owned(path, processes, ended)
    ]
    if not candidates:
        return ()
    in_use = "".join(_used_files(processes))
    stale = [path for path in candidates if _ends_with_its_owner(path) or str(path) not in in_use]
    # Emulated GPUs first: without them, the limits in the folder of their run need no undoing.
    return tuple(path for path in sorted(stale) if _remove(path))


def remove_run(folder: Path) -> bool:
    """Remove the folder of a run unless its limits cannot be undone; return whether it is gone."""
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
    """Undo the limits of a dead agent, and return whether none is left.

    Another process does it: one that has loaded the real driver cannot load emulated GPUs.
    """
    undo = [sys.executable, "-m", "steppe.agent.server", "--undo", "--lease-file", str(lease_file)]
    try:
        if not read_lease_file(lease_file):
            return True
        result = subprocess.run(undo, capture_output=True, text=True, timeout=UNDO_S, check=False)
        if not read_lease_file(lease_file):
            return True
        why = " ".join(result.stderr.split())[-500:]
    except (AgentError, OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    _log.warning("limits of a dead run stay set, see %s: %s", lease_file, why)
    return False


def _is_ours(path: Path) -> bool:
    """Return whether a file belongs to this user and still exists."""
    try:
        return path.stat().st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def _is_owned(path: Path, processes: Path, ended: int | None) -> bool:
    """Return whether the process in the name of a file or folder still needs it."""
    if not path.name.startswith((_GPUS, _RUN)):
        return False
    owner = path.name.split("-")[2]
    if owner != str(ended) and (processes / owner).exists():
        return True
    # A run with a standby goes on without the process that the user started.
    drivers = path.parent.glob(f"{_RUN}{owner}-*{_DRIVERS}")
    return _is_held(path) or any(map(_is_held, drivers))


def _is_held(path: Path) -> bool:
    """Return whether a node of any container holds a folder."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False  # it is a file, or was removed meanwhile
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(folder)
    return False


def _ends_with_its_owner(path: Path) -> bool:
    return path.name.startswith(_GPUS) and not path.name.startswith(_GPUS_OF_NODE)


def _used_files(processes: Path) -> Iterator[str]:
    """Yield the mapped files and the command line of each readable process."""
    for process in processes.glob("[0-9]*"):
        for name in ("maps", "cmdline"):
            try:
                yield (process / name).read_text(errors="replace")
            except OSError:
                continue  # it has ended, or belongs to another user
