"""The bytes of a file, piece by piece, also of one that was compressed by gzip or zstd."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow

from steppe.errors import UsageError

PIECE = 1 << 18
"""Bytes that are read at once."""
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""First bytes of compressed files."""


class TornFileError(Exception):
    """Compressed data ends early or is damaged; the bytes before were read."""


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first bytes of a file as it is on disk.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def pieces(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, decompressed; its first bytes say by what.

    Raises:
        TornFileError: The compressed data ends early or is damaged.
        UsageError: It cannot be read.
    """
    magic = first_bytes(path, len(ZSTD))
    if magic.startswith(GZIP):
        yield from _of_gzip(path)
    elif magic == ZSTD:
        yield from _of_zstd(path)
    else:
        yield from _of_plain(path)


def _of_plain(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _of_gzip(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") as file:
            while piece := file.read1(PIECE):
                yield piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TornFileError(f"found gzip data that is damaged or ends early: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _of_zstd(path: Path) -> Iterator[bytes]:
    read = 0
    stream = _zstd_stream(path)
    try:
        while piece := stream.read(PIECE):
            read += len(piece)
            yield piece
        return
    except (OSError, pyarrow.ArrowException) as error:
        damage = error
    yield from _last_bytes(_zstd_stream(path), read)
    raise TornFileError(f"found zstd data that is damaged or ends early: {damage}") from damage


def _last_bytes(stream: Any, read: int) -> Iterator[bytes]:
    """Yield byte by byte what is left before the damage: a longer read would lose it."""
    try:
        while read:
            read -= len(stream.read(min(read, PIECE)))
        while piece := stream.read(1):
            yield piece
    except (OSError, pyarrow.ArrowException):
        return


def _zstd_stream(path: Path) -> Any:
    try:
        return pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
