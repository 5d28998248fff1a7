"""The folder of one event: its record, the inputs of its baseline, its report and its page.

Each file is replaced as a whole. A report that is there is never made again, so that its bytes are
those that the log has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from steppe.disk import disk_errors, sync_folder
from steppe.errors import UsageError
from steppe.grid.reports.record import EventRecord
from steppe.grid.verify.report import EventReport

RECORD, BASELINE, REPORT, PAGE = "event.json", "baseline.json", "report.json", "report.html"
_RECORD: TypeAdapter[EventRecord] = TypeAdapter(EventRecord)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_OF_ID = 40


class EventFolder:
    """The files of one event.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is read yet."""
        self.path = path

    @property
    def name(self) -> str:
        """Its name, which no other event of the site has."""
        return self.path.name

    @property
    def page(self) -> Path:
        """The page of the report."""
        return self.path / PAGE

    def record(self) -> EventRecord:
        """Return the record.

        Raises:
            UsageError: It cannot be read, or is not what was written.
        """
        body = self._read(RECORD)
        try:
            return _RECORD.validate_json(body or b"")
        except ValidationError as error:
            found = " ".join(str(error).split())[:160]
            raise UsageError(f"{self.path / RECORD}: asked for an event, found {found}") from error

    def baseline(self) -> bytes | None:
        """Return the inputs that were kept; None without any.

        Raises:
            UsageError: They cannot be read.
        """
        return self._read(BASELINE)

    def report(self) -> EventReport | None:
        """Return the report; None if it is not made yet.

        Raises:
            UsageError: It cannot be read, or is not what was written.
        """
        body = self._read(REPORT)
        return None if body is None else EventReport.read(body)

    def keep(self, record: EventRecord) -> None:
        """Replace the record.

        Raises:
            DiskFullError, UsageError: It cannot be written.
        """
        self._write(RECORD, _RECORD.dump_json(record))

    def keep_baseline(self, inputs: bytes) -> None:
        """Replace the inputs of the baseline.

        Raises:
            DiskFullError, UsageError: They cannot be written.
        """
        self._write(BASELINE, inputs)

    def keep_report(self, report: EventReport, page: str) -> None:
        """Write the page, then the report.

        Raises:
            DiskFullError, UsageError: One cannot be written.
        """
        self._write(PAGE, page.encode())
        self._write(REPORT, report.entry)

    def _read(self, name: str) -> bytes | None:
        path = self.path / name
        with disk_errors(path):
            return path.read_bytes() if path.exists() else None

    def _write(self, name: str, body: bytes) -> None:
        path = self.path / name
        draft = path.with_name(name + ".draft")
        with disk_errors(path):
            self.path.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            sync_folder(self.path)


def event_folders(folder: Path) -> Iterator[EventFolder]:
    """Yield the folders of the events in a folder, by their start."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if (path / RECORD).exists():
                yield EventFolder(path)


def new_folder(folder: Path, record: EventRecord) -> EventFolder:
    """Return a folder for a new event: its start, its id as far as a file name may have it."""
    event = record.event
    start = _EPOCH + timedelta(seconds=int(event.starts_s))
    id_ = re.sub(r"[^A-Za-z0-9._-]", "_", event.id)[:_MOST_OF_ID]
    digest = sha256(f"{event.source}/{event.id}/{event.issued_s!r}".encode()).hexdigest()[:8]
    return EventFolder(folder / f"{start:%Y%m%dT%H%M%SZ}-{id_}-{digest}")
