"""Files that are on disk when they should be, and a disk that is full."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from steppe.errors import DiskFullError, UsageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(path: Path) -> Generator[None]:
    """Turn the errors of a path into one line.

    Raises:
        DiskFullError: No space is left, or a quota or the largest size of a file is reached.
        UsageError: It cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(f"{path}: asked to write, found {error.strerror}") from error
        raise UsageError(f"{path}: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    place = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
