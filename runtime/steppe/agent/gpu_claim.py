"""Only one agent at a time may limit a GPU of a host, whatever its lease file.

Each GPU is one byte of a file. The agent that limits the GPU holds a lock on that byte, which the
kernel frees when the agent dies. Root owns the file, because only root sets limits. Emulated GPUs
use their state file instead: each emulation counts as a host, and so does a container that does
not share `/run`.
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
    """The right to limit one GPU; the kernel frees it when the process dies."""

    def __init__(self, uuid: str) -> None:
        """Name the GPU; nothing is claimed yet."""
        self._uuid = uuid
        self._file: int | None = None

    def take(self) -> None:
        """Claim the GPU unless this object has it already; without a lock file, do nothing.

        Raises:
            TransientDeviceError: Another agent limits it.
        """
        file = _open() if self._file is None else None
        if file is None:
            return
        offset = int.from_bytes(hashlib.sha256(self._uuid.encode()).digest()[:7])
        try:
            # Not `lockf`: that lock ends when any code in this process closes the file.
            lock = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
        except (BlockingIOError, PermissionError) as error:
            os.close(file)
            raise TransientDeviceError(f"{self._uuid}: another agent limits it") from error
        self._file = file

    def release(self) -> None:
        """Let others limit the GPU."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _open() -> int | None:
    """Open the file with the locks; None if it cannot be opened."""
    state = emulated_state()
    try:
        if state is not None:
            return os.open(state, os.O_RDWR)
        HOST_FILE.parent.mkdir(exist_ok=True)
        return os.open(HOST_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
