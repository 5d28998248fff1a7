"""A file that grows by whole parts: what is behind the last part that counts is cut away."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow

from steppe.disk import disk_errors
from steppe.errors import UsageError

_GZIP_LEVEL = 6


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, _GZIP_LEVEL, mtime=0)


def _zstd(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def packer(path: Path) -> Callable[[bytes], bytes]:
    """Return how parts of a file are packed, by its name: `.gz`, `.zst`, or not at all.

    Members of gzip and frames of zstd may follow one another in a file, so each part is whole.
    """
    return {".gz": _gzip, ".zst": _zstd}.get(path.suffix, bytes)


class Appender:
    """Appends parts to a file, each of which is on disk before the next one begins."""

    def __init__(self, path: Path, offset: int) -> None:
        """Open a file, and cut away what is behind an offset.

        Args:
            path: The file; made if the offset is 0.
            offset: Bytes of it that count.

        Raises:
            DiskFullError: No space is left.
            UsageError: It cannot be written, or has fewer bytes than that.
        """
        self.path, self.offset = path, offset
        self._pack = packer(path)
        with disk_errors(path):
            place = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            self._file = os.fdopen(place, "r+b", buffering=0)
            size = self._file.seek(0, os.SEEK_END)
        if size < offset:
            self._file.close()
            raise UsageError(f"{path}: asked to go on at byte {offset}, found only {size}")
        self.cut(offset)

    def append(self, data: bytes) -> int:
        """Append a part and wait until it is on disk; return the new offset, bytes.

        Raises:
            DiskFullError: No space is left; nothing of the part is in the file.
            UsageError: It cannot be written; nothing of the part is in the file.
        """
        packed = memoryview(self._pack(data))
        try:
            with disk_errors(self.path):
                written = 0
                while written < len(packed):
                    written += self._file.write(packed[written:]) or 0
                os.fsync(self._file.fileno())
        except BaseException:
            self.cut(self.offset)
            raise
        self.offset += len(packed)
        return self.offset

    def cut(self, offset: int) -> None:
        """Cut away what is behind an offset.

        Raises:
            UsageError: It cannot be written.
        """
        with disk_errors(self.path):
            self._file.truncate(offset)
            self._file.seek(offset)
        self.offset = offset

    def close(self) -> None:
        """Close the file."""
        self._file.close()
