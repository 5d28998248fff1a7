"""One agent at a time limits a GPU of a host, whatever its lease file.

Each GPU is a byte of one file that whoever limits the GPU has locked; so nothing is left behind.
The file is root's, for nobody else sets limits. Emulated GPUs have theirs in their state file:
each emulation is a host of its own. So is a container that does not share `/run`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from pathlib import Path

from steppe.emulator.environment import emulated_state
from steppe.errors import TransientDeviceError

HOST_FILE = Path("/run/steppe/gpus.lock")
# Linux's `struct flock` on 64 bits: type, whence, start, length, process.
_FLOCK = struct.Struct("hhqqi4x")


class GpuClaim:
    """The right to limit one GPU; the kernel takes it back when we die."""

    def __init__(self, uuid: str) -> None:
        """Name the GPU; nothing is claimed yet."""
        self._uuid = uuid
        self._file: int | None = None

    def take(self) -> None:
        """Claim the GPU, if we have not yet; where there is no file to lock, nobody is kept away.

        Raises:
            TransientDeviceError: Another agent limits it.
        """
        file = _open() if self._file is None else None
        if file is None:
            return
        place = int.from_bytes(hashlib.sha256(self._uuid.encode()).digest()[:7])
        try:
            # Not `lockf`: that lock ends when anybody in this process closes the file.
            lock = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
        except (BlockingIOError, PermissionError) as error:
            os.close(file)
            raise TransientDeviceError(f"{self._uuid}: another agent limits it") from error
        self._file = file

    def give_back(self) -> None:
        """Let others limit the GPU."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _open() -> int | None:
    """Open the file with the locks; None where it cannot be."""
    state = emulated_state()
    try:
        if state is not None:
            return os.open(state, os.O_RDWR)
        HOST_FILE.parent.mkdir(exist_ok=True)
        return os.open(HOST_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
