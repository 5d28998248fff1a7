"""The history of what the site could give, on disk, so that offers go on after a restart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from steppe.disk import disk_errors
from steppe.grid.offers.history import Moment
from steppe.grid.offers.sources import Source
from steppe.grid.verify.delivery import Direction

FILE_NAME = "sources.jsonl"
_NUMBERS = (
    "watts",
    "notice_s",
    "ramp_w_per_s",
    "price",
    "energy_j",
    "tokens_per_j",
    "slo_tokens_per_j",
    "rebound_share",
    "recovery_s",
    "after_s",
)


class KeptHistory:
    """Moments by time, in memory and in a file with a line for each.

    A line that cannot be read is left out: less history makes offers smaller, not wrong.

    Attributes:
        moments: The moments, by time.
        unread: Lines of the file that could not be read.
    """

    def __init__(self, folder: Path, keep_s: float) -> None:
        """Read what is there.

        Args:
            folder: Where the file is; it is made with the first moment.
            keep_s: How long a moment is kept, s.

        Raises:
            UsageError: The file cannot be read.
        """
        self._path, self._keep_s = folder / FILE_NAME, keep_s
        self.moments: list[Moment] = []
        self.unread = 0
        with disk_errors(self._path):
            lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        for line in lines:
            moment = _moment(line)
            if moment is None:
                self.unread += 1
            else:
                self._take(moment)
        self._lines = len(lines)

    def add(self, moment: Moment) -> None:
        """Add a moment; those that are too old, or later than it, are forgotten.

        Raises:
            DiskFullError: No space is left.
            UsageError: The file cannot be written; the moment is in memory then.
        """
        self._take(moment)
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._lines > 2 * len(self.moments):
                self._write_anew()
                return
            with self._path.open("ab") as file:
                if self._lines and not _ends_a_line(self._path):
                    file.write(b"\n")
                file.write(_line(moment))
        self._lines += 1

    def _take(self, moment: Moment) -> None:
        """Keep a moment; after the clock was set back, later ones were never there."""
        while self.moments and self.moments[-1].at_s >= moment.at_s:
            self.moments.pop()
        self.moments.append(moment)
        oldest_s = moment.at_s - self._keep_s
        old = next(n for n, each in enumerate(self.moments) if each.at_s >= oldest_s)
        del self.moments[:old]

    def _write_anew(self) -> None:
        draft = self._path.with_name(self._path.name + ".draft")
        draft.write_bytes(b"".join(map(_line, self.moments)))
        draft.replace(self._path)
        self._lines = len(self.moments)


def shown_moments(moments: Sequence[Moment]) -> str:
    """Return how far a history reaches, for people."""
    if not moments:
        return "no history"
    return f"a history of {(moments[-1].at_s - moments[0].at_s) / 3600:.1f} h"


def _line(moment: Moment) -> bytes:
    sources = [
        {"name": one.name, "direction": str(one.direction)}
        | {name: _finite(getattr(one, name)) for name in _NUMBERS}
        for one in moment.sources
    ]
    return orjson.dumps({"at_s": moment.at_s, "sources": sources}) + b"\n"


def _moment(line: bytes) -> Moment | None:
    """Return the moment of a line; None if it is not what was written."""
    try:
        values: Any = orjson.loads(line)
        sources = tuple(map(_source, values["sources"]))
        at_s = float(values["at_s"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    return Moment(at_s, sources) if math.isfinite(at_s) else None


def _source(values: dict[str, Any]) -> Source:
    numbers = {name: math.inf if values[name] is None else float(values[name]) for name in _NUMBERS}
    return Source(str(values["name"]), direction=Direction(values["direction"]), **numbers)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
