"""A live supply signal: a file with one number, rewritten by another program."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_LONGEST_TEXT = 64


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


Reading = Fresh | Stale | Missing


@dataclass(frozen=True, slots=True)
class SignalFile:
    """A file that holds one number, W; its modification time says when it was said.

    Attributes:
        path: The file; its writer should replace it (write, then rename).
        stale_s: Oldest age that is believed, s.
        wall_s: Reads the clock that stamps files, s since the epoch.
    """

    path: Path
    stale_s: float
    wall_s: Callable[[], float]

    def read(self) -> Reading:
        """Return what the file says now; a negative number (own use) is 0 W."""
        try:
            with self.path.open() as file:
                text = file.read(_LONGEST_TEXT + 1).strip()
                written_s = os.fstat(file.fileno()).st_mtime
        except (OSError, UnicodeDecodeError) as error:
            return Missing(f"{self.path}: {error}")
        age_s = self.wall_s() - written_s
        if age_s > self.stale_s:
            return Stale(age_s)
        if age_s < -self.stale_s:
            return Missing(f"{self.path}: its time lies {-age_s:.0f} s in the future")
        return _reading(self.path, text, max(0.0, age_s))


class HeldSignal:
    """A signal file whose last fresh number stands in for an unreadable one until it is stale.

    A writer that truncates and writes leaves an empty file for a moment; that is no lull. The
    wall clock may be set back meanwhile, so a held number also ages by a clock that never is.
    """

    def __init__(self, file: SignalFile, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Hold nothing yet; `monotonic_s` reads a clock that is never set, s."""
        self._file = file
        self._monotonic_s = monotonic_s
        self._last: Fresh | None = None
        self._written_s = 0.0
        self._read_s = 0.0

    def read(self) -> Reading:
        """Return what the file says, or what it last said where that is young enough."""
        reading = self._file.read()
        now_s = self._file.wall_s()
        match reading:
            case Fresh():
                self._last, self._written_s = reading, now_s - reading.age_s
                self._read_s = self._monotonic_s()
            case Missing() if self._last is not None:
                held_s = self._monotonic_s() - self._read_s
                age_s = max(now_s - self._written_s, self._last.age_s + held_s)
                if age_s <= self._file.stale_s:
                    return Fresh(self._last.watts, age_s)
        return reading


def _reading(path: Path, text: str, age_s: float) -> Reading:
    if len(text) > _LONGEST_TEXT:
        return Missing(f"{path}: asked for one number, found more than {_LONGEST_TEXT} characters")
    try:
        watts = float(text)
    except ValueError:
        return Missing(f"{path}: asked for a number, found {text!r}")
    if not math.isfinite(watts):
        return Missing(f"{path}: asked for a finite number, found {text!r}")
    return Fresh(max(0.0, watts), age_s)
