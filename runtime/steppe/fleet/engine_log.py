"""The log of one engine: a file of its own beside Ray's logs, on the node of its replica."""

from __future__ import annotations

import os
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 8 << 20
"""A log that has grown larger is emptied once it was read to its end."""
MOST_READ_BYTES = 256 << 10
"""Most of a log that one call returns."""
LAST_LINES = 12
"""Lines of a log that an error shows."""
_LONGEST_LINE = 300


@dataclass(frozen=True, slots=True)
class LogPart:
    """A part of a log.

    Attributes:
        text: What it holds.
        end: Where the next part begins, bytes.
    """

    text: bytes
    end: int


def engine_log_path(run_id: str, replica: str) -> Path | None:
    """Return the log of a replica's engine on this node; None if the process has no log itself.

    A process of Ray writes its output into the folder of its session. The log lies in the same
    folder, because that identifies the processes of a session, see `orphan_processes`.
    """
    try:
        own = Path(os.readlink("/proc/self/fd/1"))
    except OSError:
        return None
    return own.parent / f"steppe-{run_id}-{replica}.log" if own.is_file() else None


def redirect_output(path: Path) -> None:
    """Let this process, and those that it starts, write all their output to the end of a file.

    Raises:
        OSError: The file cannot be opened.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def read_log(path: Path, begin: int) -> LogPart:
    """Return a part of a log, nothing if there is none; empty a log that has grown too large."""
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            begin = file.seek(begin if begin <= size else 0)  # it was emptied since
            text = file.read(MOST_READ_BYTES)
            end = begin + len(text)
            if end == size > MOST_BYTES:
                file.truncate(0)
                end = 0
            return LogPart(text, end)
    except OSError:
        return LogPart(b"", begin)


def last_lines(path: Path) -> str:
    """Return the last lines of a log, cut to a readable width; empty if there are none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LAST_LINES * _LONGEST_LINE))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = deque((line.rstrip() for line in text.splitlines() if line.strip()), LAST_LINES)
    return "\n".join(line[:_LONGEST_LINE] for line in lines)
