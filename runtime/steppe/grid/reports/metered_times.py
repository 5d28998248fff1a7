"""When the draw was read at the meter of the site, and when it was computed instead."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from pathlib import Path

import orjson

from steppe.disk import disk_errors

FILE_NAME = "metered.jsonl"


class MeteredTimes:
    """The changes between both, in a file with a line for each; before the first it was computed.

    A change that was lost with the power is written again with the next reading.
    """

    def __init__(self, folder: Path) -> None:
        """Go on from the file of a folder; a line that cannot be read is left out.

        Args:
            folder: The folder; the file is made with the first change.

        Raises:
            UsageError: The file cannot be read.
        """
        self._path = folder / FILE_NAME
        self._changes: list[tuple[float, bool]] = []
        self._noted_s = -inf
        with disk_errors(self._path):
            lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        for line in lines:
            if (change := _change(line)) is not None:
                self._changes.append(change)
                self._noted_s = max(self._noted_s, change[0])

    @property
    def has_any(self) -> bool:
        """Whether the meter was ever read."""
        return bool(self._changes)

    def note(self, begin_s: float, end_s: float, *, is_metered: bool) -> None:
        """Note how the draw of a span was found; one that is not after the last changes nothing.

        Raises:
            DiskFullError, UsageError: A change cannot be written: it is noted with the next span.
        """
        if end_s <= self._noted_s:
            return
        before = self._changes[-1][1] if self._changes else False
        if is_metered is not before:
            change = (max(begin_s, self._noted_s), is_metered)
            with disk_errors(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("ab") as file:
                    file.write(b"\n" + orjson.dumps(change) + b"\n")
            self._changes.append(change)
        self._noted_s = end_s

    def computed_s(self, start_s: float, end_s: float) -> int:
        """Return how much of a time the draw was computed in, whole s, rounded up.

        Args:
            start_s: Begin, s since the Unix epoch.
            end_s: End.
        """
        metered_s = 0.0
        for (begin_s, is_metered), (until_s, _) in pairwise([*self._changes, (inf, False)]):
            if is_metered:
                metered_s += max(0.0, min(until_s, end_s) - max(begin_s, start_s))
        return -int(-(end_s - start_s - metered_s) // 1)


def _change(line: bytes) -> tuple[float, bool] | None:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    match values:
        case [int() | float() as at_s, bool() as is_metered]:
            return float(at_s), is_metered
        case _:
            return None
