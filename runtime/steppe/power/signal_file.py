"""A live supply signal: a file with one number, rewritten by another program."""

from __future__ import annotations

import math
import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from steppe.config.section import LARGEST
from steppe.power.signal import Fresh, Missing, Reading, Stale

_LONGEST_TEXT = 64
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_UNCHANGED_S = 0.05
"""A number without a newline counts only after its file was unchanged for this long, s: until
then it may be partly written."""


@dataclass(frozen=True, slots=True)
class PartialWrite:
    """A recent number without a newline, which may be partly written.

    Attributes:
        fresh: The reading if the number is whole.
        reason: Why it may not be.
    """

    fresh: Fresh
    reason: str


@dataclass(frozen=True, slots=True)
class SignalFile:
    """A file that holds one number, W; its age is that of its modification time.

    Attributes:
        path: The file; its writer should replace it (write, then rename), or end with a newline.
        stale_s: Oldest age that still counts as fresh, s.
        wall_s: Reads the clock that stamps files, s since the epoch.
    """

    path: Path
    stale_s: float
    wall_s: Callable[[], float]

    def read(self) -> Reading | PartialWrite:
        """Return the content of the file; a negative number (own use) is 0 W."""
        return self.read_with_mtime()[0]

    def read_with_mtime(self) -> tuple[Reading | PartialWrite, float | None]:
        """Return the content of the file and its modification time, s; None without one."""
        try:
            with open(self.path, encoding="utf-8-sig", opener=_open_nonblocking) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return Missing(f"{self.path}: asked for a file, found something else"), None
                text = file.read(_LONGEST_TEXT + 1)
                written_s = os.fstat(file.fileno()).st_mtime
        except (OSError, UnicodeDecodeError) as error:
            return Missing(f"{self.path}: {error}"), None
        age_s = self.wall_s() - written_s
        if age_s > self.stale_s:
            return Stale(age_s), written_s
        if age_s < -self.stale_s:
            reason = f"{self.path}: its modification time is {-age_s:.0f} s in the future"
            return Missing(reason), written_s
        reading = _parsed(self.path, text.strip(), max(0.0, age_s))
        is_recent = 0.0 <= age_s < _UNCHANGED_S
        if isinstance(reading, Fresh) and is_recent and not text.endswith("\n"):
            reason = f"{self.path}: {text!r} has no newline and may be partly written"
            return PartialWrite(reading, reason), written_s
        return reading, written_s


@dataclass(frozen=True, slots=True)
class _FileVersion:
    """When a version of the file was written, by two clocks.

    Attributes:
        written_s: Its modification time, s since the epoch.
        first_read_s: When it was first read, s on the monotonic clock.
        age_s: Its age then, s.
    """

    written_s: float
    first_read_s: float
    age_s: float

    def age_at(self, wall_s: float, monotonic_s: float) -> float:
        """Return its age, s: the larger of the two clocks' answers."""
        return max(wall_s - self.written_s, self.age_s + monotonic_s - self.first_read_s)


class SignalReader:
    """Reads a signal file, and keeps its last fresh number while the file is unreadable.

    A writer that truncates and writes leaves an empty file or a partial number for a moment. The
    last number then stays in use until it is stale. If the file is never unchanged for long
    enough, its content is used as it is. A number also ages by the monotonic clock, because the
    wall clock may be set back.
    """

    def __init__(self, file: SignalFile, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Start without a number; `monotonic_s` reads the monotonic clock, s."""
        self._file = file
        self._monotonic_s = monotonic_s
        self._version: _FileVersion | None = None
        self._kept: tuple[float, _FileVersion] | None = None
        self._partial_since_s: float | None = None

    def read(self) -> Reading:
        """Return the content of the file, or its last number where that is not stale."""
        found, written_s = self._file.read_with_mtime()
        wall_s, monotonic_s = self._file.wall_s(), self._monotonic_s()
        reading = self._resolved(found, monotonic_s)
        version = self._version
        if written_s is not None and (version is None or version.written_s != written_s):
            age_s = max(0.0, wall_s - written_s)
            self._version = version = _FileVersion(written_s, monotonic_s, age_s)
        if isinstance(reading, Fresh) and version is not None:
            self._kept = reading.watts, version
        if isinstance(reading, Stale) or self._kept is None:
            return reading
        watts, kept_version = self._kept
        age_s = kept_version.age_at(wall_s, monotonic_s)
        if age_s <= self._file.stale_s:
            return Fresh(watts, age_s)
        return Stale(age_s) if isinstance(reading, Fresh) else reading

    def _resolved(self, found: Reading | PartialWrite, now_s: float) -> Reading:
        """Return a partial write as missing, unless no whole number was found for a while."""
        match found:
            case PartialWrite(fresh, reason):
                if self._partial_since_s is None:
                    self._partial_since_s = now_s
                is_lasting = now_s - self._partial_since_s >= _UNCHANGED_S
                return fresh if is_lasting else Missing(reason)
            case Fresh() | Stale():
                self._partial_since_s = None
        return found


def _open_nonblocking(path: str, flags: int) -> int:
    """Open a file without waiting; opening a pipe would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _parsed(path: Path, text: str, age_s: float) -> Reading:
    if len(text) > _LONGEST_TEXT:
        return Missing(f"{path}: asked for one number, found more than {_LONGEST_TEXT} characters")
    if not _NUMBER.fullmatch(text):
        return Missing(f"{path}: asked for a number, found {text!r}")
    watts = float(text)
    if not math.isfinite(watts):
        return Missing(f"{path}: asked for a finite number, found {text!r}")
    if watts > LARGEST:  # programs write such a number where they have no value
        return Missing(f"{path}: asked for at most {LARGEST:g} W, found {text!r}")
    return Fresh(max(0.0, watts), age_s)
