"""Reads the file of a job into the store, and says what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from steppe.batch.job import Job, JobState
from steppe.batch.row import BadRow, Row
from steppe.batch.rows.options import RowOptions
from steppe.batch.rows.read import open_json_rows
from steppe.batch.store.job_store import JobStore
from steppe.config import BatchSection
from steppe.errors import InputChangedError, SteppeError

MOST_ERRORS = 100
"""Bad lines that the answer names when all are bad."""

UNPACKED, UNPACKED_MORE_BYTES = 2, 1 << 20
"""A packed file may hold so many times `batch.file_bytes`, and so much more, bytes: what stands
around its requests."""


class StoppedError(SteppeError):
    """The service stops; the file is read again after its next start."""


@dataclass(frozen=True, slots=True)
class LineError:
    """What is wrong with an input.

    Attributes:
        code: The exact reason, for programs.
        message: The same in words.
        line: The line, from 1; None for the whole file.
    """

    code: str
    message: str
    line: int | None = None

    @property
    def shown(self) -> dict[str, Any]:
        """It as JSON values."""
        return {"code": self.code, "message": self.message, "line": self.line, "param": None}


class Validation:
    """Reads the input of one job; it takes some seconds, so run it in a thread."""

    def __init__(
        self,
        store: JobStore,
        job: Job,
        batch: BatchSection,
        epoch_s: Callable[[], float],
        is_stopping: Callable[[], bool],
    ) -> None:
        """Keep what to read.

        Args:
            store: Gets the rows.
            job: The job, in state `validating`.
            batch: How large an input may be.
            epoch_s: Reads the time, s since the Unix epoch.
            is_stopping: Whether to give up.
        """
        self._store, self._job = store, job
        self._most_lines, self._most_bytes = batch.lines, batch.file_bytes
        self._epoch_s, self._is_stopping = epoch_s, is_stopping
        self._models: Counter[str] = Counter()
        self._read_bytes = 0

    def run(self) -> None:
        """Add all rows and let the job begin, or let it fail.

        Raises:
            StoppedError: The service stops.
            DiskFullError: No space is left; the job can be resumed.
        """
        errors = self._load()
        now_s, job = self._epoch_s(), self._job
        if errors:
            shown = [error.shown for error in errors]
            changes = {"error": errors[0].message, "settings": {**job.settings, "errors": shown}}
            self._store.change_state(
                job.id, JobState.FAILED, now_s, [JobState.VALIDATING], **changes
            )
            return
        model = next(iter(self._models)) if len(self._models) == 1 else ""
        self._store.change_state(
            job.id, JobState.IN_PROGRESS, now_s, [JobState.VALIDATING], model=model
        )

    def _load(self) -> list[LineError]:
        """Add the rows; return why the job cannot begin."""
        path = self._store.file_path(self._job.input)
        if not path.is_file():
            return [LineError("file_not_found", f"found no file {self._job.input}")]
        try:
            self._store.add_rows(self._job.id, self._rows(path), self._epoch_s())
        except _TooLargeError as error:
            return [LineError(error.code, str(error))]
        except InputChangedError as error:
            return [LineError("input_changed", str(error))]
        counts = self._store.counts(self._job.id)
        if not counts.total:
            return [LineError("empty_file", "asked for a line for each request, found none")]
        if counts.failed < counts.total:
            return []
        bad = islice(self._store.results(self._job.id, in_order=True), MOST_ERRORS)
        found = (each.result for each in bad)
        return [LineError(each.error_code, each.error, each.number + 1) for each in found]

    def _rows(self, path: Path) -> Iterator[Row | BadRow]:
        body_bytes = 0
        options = RowOptions(endpoint=self._job.endpoint)
        for count, row in enumerate(open_json_rows(path, options, self._count_bytes), 1):
            self._check_stop()
            if count > self._most_lines:
                message = f"asked for at most {self._most_lines} requests, found more"
                raise _TooLargeError(message, "too_many_requests")
            if isinstance(row, Row):
                body_bytes += len(row.body)
                self._models[str(orjson.loads(row.body)["model"])] += 1
            if body_bytes > self._most_bytes:  # a packed file may be much larger inside
                message = f"asked for requests of at most {self._most_bytes} bytes, found more"
                raise _TooLargeError(message, "file_too_large")
            yield row

    def _count_bytes(self, read: int) -> None:
        """Bound what a packed file holds: empty lines and lines without an end are no rows."""
        self._check_stop()
        self._read_bytes += read
        most = UNPACKED * self._most_bytes + UNPACKED_MORE_BYTES
        if self._read_bytes > most:
            message = f"asked for a file of at most {most} bytes when unpacked, found more"
            raise _TooLargeError(message, "file_too_large")

    def _check_stop(self) -> None:
        if self._is_stopping():
            raise StoppedError("the service stops")


class _TooLargeError(SteppeError):
    """An input is too large."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
