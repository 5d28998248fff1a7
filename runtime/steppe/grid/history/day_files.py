"""The files of the history: one of readings for each recent day, one of steps for each older one.

A file of readings is appended to, a line each; a line that was cut off is skipped. A file of steps
is replaced as a whole. It names the readings that went into it last by their hash, so that a crash
between the two counts none of them twice.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import orjson

from steppe.disk import disk_errors, sync_folder
from steppe.errors import UsageError
from steppe.grid.history.reading import SiteReading, reading_in
from steppe.grid.history.steps import Columns, add_reading, columns_in, columns_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READINGS, _STEPS = ".jsonl", ".json"
_NAMES = "last-readings"
_VERSION = 1


def day_of(time_s: float) -> date:
    """Return the day of a time, in UTC."""
    return (_EPOCH + timedelta(seconds=time_s)).date()


class DayFiles:
    """The files in one folder; one process writes them."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is read yet."""
        self._folder = folder
        self._unsynced: set[Path] = set()

    def days_of_readings(self) -> list[date]:
        """Return the days that have a file of readings, the oldest first."""
        return self._days(_READINGS)

    def days_of_steps(self) -> list[date]:
        """Return the days that have a file of steps, the oldest first."""
        return self._days(_STEPS)

    def append(self, readings: Iterable[SiteReading]) -> None:
        """Append readings to the files of their days.

        Raises:
            DiskFullError: No space is left. Some may be written: to append them again is harmless.
            UsageError: A file cannot be written.
        """
        by_day: dict[date, list[SiteReading]] = {}
        for each in readings:
            by_day.setdefault(day_of(each.end_ms / 1000), []).append(each)
        for day, some in by_day.items():
            path = self._path(day, _READINGS)
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab") as file:
                    whole = file.tell() == 0 or _ends_a_line(path)
                    file.write((b"" if whole else b"\n") + b"".join(each.line for each in some))
            self._unsynced.add(path)

    def sync(self) -> None:
        """Wait until what was appended is on disk.

        Raises:
            DiskFullError, UsageError: It cannot be written.
        """
        for path in sorted(self._unsynced):
            with disk_errors(path):
                if path.exists():
                    with path.open("ab") as file:
                        os.fsync(file.fileno())
                    sync_folder(path.parent)
            self._unsynced.discard(path)

    def readings(self, day: date) -> list[SiteReading]:
        """Return the readings of a day, each once, in the order in which they came.

        Raises:
            UsageError: The file cannot be read.
        """
        path = self._path(day, _READINGS)
        found: dict[tuple[int, int], SiteReading] = {}
        with disk_errors(path):
            lines = path.read_bytes().splitlines() if path.exists() else []
        if lines and self._is_in_steps(day, path):
            return []
        for line in lines:
            if (each := reading_in(line)) is not None:
                found.setdefault(each.key, each)
        return list(found.values())

    def steps(self, day: date) -> Columns:
        """Return what the file of steps of a day holds; nothing without one.

        Raises:
            UsageError: It cannot be read, or is not what was written.
        """
        content = self._content(day)
        return columns_in(content) if content else Columns(0, [], [], [])

    def fold(self, day: date) -> None:
        """Make steps of the readings of a day, and remove these.

        Raises:
            DiskFullError, UsageError: It cannot be read or written: all is as before.
        """
        source, path = self._path(day, _READINGS), self._path(day, _STEPS)
        steps = self.steps(day).steps
        new = self.readings(day)
        for each in new:
            add_reading(steps, each)
        if new:
            body = {"v": _VERSION, "readings_sha256": _digest(source), **asdict(columns_of(steps))}
            _replace(path, orjson.dumps(body))
        with disk_errors(source):
            source.unlink(missing_ok=True)
        self._unsynced.discard(source)

    def names(self) -> list[tuple[int, int]]:
        """Return the names that were kept of readings whose days are folded since.

        Raises:
            UsageError: The file cannot be read, or is not what was written.
        """
        path = self._folder / _NAMES
        with disk_errors(path):
            lines = path.read_bytes().splitlines() if path.exists() else []
        try:
            return [(number, end_ms) for number, end_ms in map(orjson.loads, lines)]
        except (TypeError, ValueError) as error:
            raise UsageError(f"{path}: asked for the names of readings, found {error}") from error

    def keep_names(self, names: Iterable[tuple[int, int]]) -> None:
        """Keep the names of the last readings, to know them when they are sent again.

        Raises:
            DiskFullError, UsageError: They cannot be written.
        """
        _replace(self._folder / _NAMES, b"".join(orjson.dumps(each) + b"\n" for each in names))

    def remove_before(self, day: date) -> None:
        """Remove the files of steps of older days.

        Raises:
            UsageError: One cannot be removed.
        """
        for each in self.days_of_steps():
            if each < day:
                path = self._path(each, _STEPS)
                with disk_errors(path):
                    path.unlink(missing_ok=True)

    def _content(self, day: date) -> dict[str, object]:
        path = self._path(day, _STEPS)
        with disk_errors(path):
            body = path.read_bytes() if path.exists() else b"{}"
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise UsageError(f"{path}: asked for the steps of a day, found {error}") from error
        if not isinstance(content, dict):
            raise UsageError(f"{path}: asked for the steps of a day, found {content!r:.60}")
        return content

    def _is_in_steps(self, day: date, path: Path) -> bool:
        """Return whether all readings of a file are in the steps of its day already."""
        digest = self._content(day).get("readings_sha256")
        return digest is not None and digest == _digest(path)

    def _days(self, suffix: str) -> list[date]:
        return sorted(self._days_in(suffix))

    def _days_in(self, suffix: str) -> Iterator[date]:
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if path.suffix == suffix:
                try:
                    yield date.fromisoformat(path.stem)
                except ValueError:
                    continue

    def _path(self, day: date, suffix: str) -> Path:
        return self._folder / f"{day.isoformat()}{suffix}"


def _replace(path: Path, body: bytes) -> None:
    """Replace a file as a whole, and wait until it is on disk."""
    draft = path.with_name(path.name + ".draft")
    with disk_errors(path):
        with draft.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)


def _digest(path: Path) -> str:
    with disk_errors(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
