"""A folder belongs to one service at a time; the lock ends with the process, however it ends."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from pathlib import Path

from steppe.errors import UsageError

_POLL_S = 0.05
_TOKEN_CHARS = 24


class FolderLock:
    """Holds a folder until `release`.

    Attributes:
        owner: Name of the folder's holder. The next holder has the same one, and a copy of the
            folder has another one.
    """

    def __init__(self, folder: Path, wait_s: float, name: str, file: str = "lock") -> None:
        """Take the folder; make it if it is missing.

        Args:
            folder: The folder; one that is made is closed to other users, for it has prompts.
            wait_s: Longest wait for a process that is ending, s.
            name: What the configuration calls it, for messages.
            file: The file in it that is locked; two services with different ones share a folder.

        Raises:
            UsageError: Another process has it, or it cannot be written.
        """
        until_s = time.monotonic() + wait_s
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(folder / file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            while not self._take():
                if time.monotonic() > until_s:
                    os.close(self._file)
                    raise UsageError(f"{name}: {folder} is in use by another run")
                time.sleep(_POLL_S)
            self.owner = self._read_owner()
        except OSError as error:
            found = error.strerror or error
            raise UsageError(f"{name}: cannot write {folder}: {found}") from error

    def release(self) -> None:
        """Give the folder back."""
        os.close(self._file)

    def _read_owner(self) -> str:
        token = os.pread(self._file, _TOKEN_CHARS, 0).decode(errors="replace")
        if len(token) != _TOKEN_CHARS:
            token = secrets.token_hex(_TOKEN_CHARS // 2)
            os.pwrite(self._file, token.encode(), 0)
            os.fsync(self._file)
        return f"{token}-{os.fstat(self._file).st_ino}"

    def _take(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
