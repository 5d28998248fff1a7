"""Notes on disk: one line of JSON each, in a file for each day, and only ever added to.

A note counts once its file is synchronised with the disk; all notes of a call are synchronised at
once. A process that is killed while it writes leaves a line without its end: that note was never
acknowledged, so the line is cut off when the book is opened again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import orjson

from steppe.disk import disk_errors, sync_folder
from steppe.errors import UsageError
from steppe.sites.settlement.sent import Sent

US_PER_DAY = 86_400_000_000
KEPT_DAYS = 40
"""Files of more days ago are removed: they were settled long since."""
_KNOWN_DAYS = 2
"""Notes of so many days are known by their ids, so that one that comes twice is written once."""

_log = logging.getLogger(__name__)


class Note(Protocol):
    """What is noted."""

    @property
    def request(self) -> str:
        """Id that no other note has."""
        ...

    @property
    def values(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        ...


_Note = TypeVar("_Note", bound=Note)


class NoteBook(Generic[_Note]):
    """Notes of one kind; its methods block, and may be called from any thread."""

    def __init__(
        self,
        folder: Path,
        name: str,
        read: Callable[[Any], _Note],
        at_us: Callable[[_Note], int],
        now_us: int,
    ) -> None:
        """Open the book; make it if it is missing.

        Args:
            folder: Where its files are.
            name: Begin of the names of its files.
            read: Returns the note of an object of JSON, or raises UsageError.
            at_us: Returns the time that puts a note into its file, us since the Unix epoch.
            now_us: Now, us since the Unix epoch.

        Raises:
            UsageError: The folder cannot be written.
        """
        self._folder, self._name, self._read, self._at_us = folder, name, read, at_us
        self._lock = threading.Lock()
        today = now_us // US_PER_DAY
        with disk_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._known = {
            day: {note.request for note in self._opened(day)}
            for day in range(today - _KNOWN_DAYS, today + _KNOWN_DAYS)
        }
        self._remove_before(today - KEPT_DAYS)

    def add(self, notes: Sequence[_Note]) -> int:
        """Write notes, and wait until they are on disk; return how many were new.

        Raises:
            DiskFullError: No space is left; none of the notes counts.
            UsageError: They cannot be written; none counts.
        """
        with self._lock:
            new = {note.request: note for note in notes if not self._is_known(note.request)}
            days: dict[int, list[_Note]] = {}
            for note in new.values():
                days.setdefault(self._at_us(note) // US_PER_DAY, []).append(note)
            for day, of_day in days.items():
                lines = [orjson.dumps(note.values) + b"\n" for note in of_day]
                self._append(self._path(day), b"".join(lines))
                self._begin(day)
                self._known[day].update(note.request for note in of_day)
            return len(new)

    def between(self, begin_us: int, end_us: int) -> list[_Note]:
        """Return the notes whose times are at or after `begin_us` and before `end_us`.

        Raises:
            UsageError: They cannot be read.
        """
        return [
            note
            for day in range(begin_us // US_PER_DAY, (end_us - 1) // US_PER_DAY + 1)
            for note in self._notes(self._path(day))
            if begin_us <= self._at_us(note) < end_us
        ]

    def _is_known(self, request: str) -> bool:
        return any(request in of_day for of_day in self._known.values())

    def _begin(self, day: int) -> None:
        """Begin a day, if it is new: the ids of the day that was begun first are forgotten."""
        self._known.setdefault(day, set())
        while len(self._known) > 2 * _KNOWN_DAYS:
            del self._known[next(iter(self._known))]

    def _opened(self, day: int) -> list[_Note]:
        """Return the notes of a day, after a line without its end was cut off."""
        path = self._path(day)
        if not path.exists():
            return []
        with disk_errors(path):
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                _log.warning("%s: the last line has no end and is cut off", path)
                os.truncate(path, whole)
        return list(self._notes(path))

    def _append(self, path: Path, data: bytes) -> None:
        """Add whole lines to a file; after an error it is as long as before."""
        with disk_errors(path):
            is_new = not path.exists()
            place = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                before = os.fstat(place).st_size
                try:
                    left = memoryview(data)
                    while left:
                        left = left[os.write(place, left) :]
                    os.fsync(place)
                except OSError:
                    os.ftruncate(place, before)
                    raise
            finally:
                os.close(place)
            if is_new:
                sync_folder(self._folder)

    def _notes(self, path: Path) -> Iterator[_Note]:
        """Yield the notes of a file; a line that is none is left out."""
        if not path.exists():
            return
        with disk_errors(path):
            lines = path.read_bytes().splitlines()
        for number, line in enumerate(lines, 1):
            try:
                yield self._read(orjson.loads(line))
            except (orjson.JSONDecodeError, UsageError) as error:
                _log.warning("%s, line %d: no note: %s", path, number, error)

    def _path(self, day: int) -> Path:
        return self._folder / f"{self._name}-{_date_of(day)}.jsonl"

    def _remove_before(self, day: int) -> None:
        first = f"{self._name}-{_date_of(day)}.jsonl"
        with disk_errors(self._folder):
            for path in self._folder.glob(f"{self._name}-*.jsonl"):
                if path.name < first:
                    path.unlink()


class SentBook(NoteBook[Sent]):
    """What this site sent to other sites, by the time at which it ended."""

    def __init__(self, folder: Path, now_us: int) -> None:
        """Open the book in a folder.

        Args:
            folder: `sites.folder`.
            now_us: Now, us since the Unix epoch.

        Raises:
            UsageError: The folder cannot be written.
        """
        super().__init__(folder, "sent", Sent.read, lambda note: note.ended_us, now_us)


def _date_of(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y%m%d")
