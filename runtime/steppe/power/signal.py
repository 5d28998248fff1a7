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

_LONGEST_TEXT = 64
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_REST_S = 0.05
"""A number without a newline may be half a number until its file has rested so long, s."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A supply that can be believed: W, and how long ago it was said, s."""

    watts: float
    age_s: float


@dataclass(frozen=True, slots=True)
class Stale:
    """A supply that was said too long ago, s, to be believed."""

    age_s: float


@dataclass(frozen=True, slots=True)
class Missing:
    """No supply can be read, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A number just written without a newline: it may be half of one.

    Attributes:
        fresh: What it says if it is whole.
        reason: Why it may not be.
    """

    fresh: Fresh
    reason: str


Reading = Fresh | Stale | Missing


@dataclass(frozen=True, slots=True)
class SignalFile:
    """A file that holds one number, W; its modification time says when it was said.

    Attributes:
        path: The file; its writer should replace it (write, then rename), or end with a newline.
        stale_s: Oldest age that is believed, s.
        wall_s: Reads the clock that stamps files, s since the epoch.
    """

    path: Path
    stale_s: float
    wall_s: Callable[[], float]

    def read(self) -> Reading | Unfinished:
        """Return what the file says now; a negative number (own use) is 0 W."""
        return self.look()[0]

    def look(self) -> tuple[Reading | Unfinished, float | None]:
        """Return what the file says now and its modification time, s; None where it has none."""
        try:
            with open(self.path, encoding="utf-8-sig", opener=_open_at_once) as file:
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
            early = f"{self.path}: its time lies {-age_s:.0f} s in the future"
            return Missing(early), written_s
        reading = _reading(self.path, text.strip(), max(0.0, age_s))
        if isinstance(reading, Fresh) and 0.0 <= age_s < _REST_S and not text.endswith("\n"):
            why = f"{self.path}: {text!r} may go on, it has no newline"
            return Unfinished(reading, why), written_s
        return reading, written_s


@dataclass(frozen=True, slots=True)
class _Writing:
    """When a file was written, by two clocks.

    Attributes:
        written_s: Its modification time, s since the epoch.
        seen_s: When it was first seen with that time, s of a clock that is never set.
        age_s: Its age then, s.
    """

    written_s: float
    seen_s: float
    age_s: float

    def age_at(self, wall_s: float, monotonic_s: float) -> float:
        """Return its age, s: what the clock says that makes it older."""
        return max(wall_s - self.written_s, self.age_s + monotonic_s - self.seen_s)


class HeldSignal:
    """A signal file whose last fresh number stands in for an unreadable one until it is stale.

    A writer that truncates and writes leaves an empty file, or half a number, for a moment; that
    is no lull. Of one that never rests, though, whatever is found is believed. The wall clock may
    be set back meanwhile, so a number also ages by a clock that never is.
    """

    def __init__(self, file: SignalFile, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Hold nothing yet; `monotonic_s` reads a clock that is never set, s."""
        self._file = file
        self._monotonic_s = monotonic_s
        self._writing: _Writing | None = None
        self._held: tuple[float, _Writing] | None = None
        self._unfinished_s: float | None = None

    def read(self) -> Reading:
        """Return what the file says, or what it last said where that is young enough."""
        found, written_s = self._file.look()
        wall_s, monotonic_s = self._file.wall_s(), self._monotonic_s()
        reading = self._weigh(found, monotonic_s)
        writing = self._writing
        if written_s is not None and (writing is None or writing.written_s != written_s):
            age_s = max(0.0, wall_s - written_s)
            self._writing = writing = _Writing(written_s, monotonic_s, age_s)
        if isinstance(reading, Fresh) and writing is not None:
            self._held = reading.watts, writing
        if isinstance(reading, Stale) or self._held is None:
            return reading
        watts, said = self._held
        age_s = said.age_at(wall_s, monotonic_s)
        if age_s <= self._file.stale_s:
            return Fresh(watts, age_s)
        return Stale(age_s) if isinstance(reading, Fresh) else reading

    def _weigh(self, found: Reading | Unfinished, now_s: float) -> Reading:
        """Take what may be half a number for none, unless no whole one was found for a while."""
        match found:
            case Unfinished(fresh, reason):
                if self._unfinished_s is None:
                    self._unfinished_s = now_s
                return fresh if now_s - self._unfinished_s >= _REST_S else Missing(reason)
            case Fresh() | Stale():
                self._unfinished_s = None
        return found


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting; a pipe would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _reading(path: Path, text: str, age_s: float) -> Reading:
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
