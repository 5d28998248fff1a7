"""Reads the rows of a job into its store, while a runner works on those that are there."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from steppe.batch.job import Job, JobState
from steppe.batch.local.folder import spec_of
from steppe.batch.row import BadRow, Row
from steppe.batch.rows.read import open_rows
from steppe.batch.store.job_store import JobStore
from steppe.errors import InputChangedError, UsageError

Source = Callable[[], Iterable[Row | BadRow]]

_CHUNK = 1 << 20
_GROUP, _GROUP_S = 500, 1.0
"""Rows that are given to the store together, and the longest time to wait for so many, s."""


class _StoppedError(Exception):
    """The loader is to stop."""


class Loader:
    """Reads the rows of a job in a thread of its own."""

    def __init__(self, store: JobStore, job: Job, source: Source | None = None) -> None:
        """Prepare.

        Args:
            store: The store of the job.
            job: The job, in the state `validating`.
            source: Returns the rows; None for those of the job's input.
        """
        self._store, self._job, self._source = store, job, source
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(1, "batch-loader")

    def start(self, on_end: Callable[[bool], None]) -> None:
        """Begin to read; `on_end` gets whether all rows are in the store."""
        self._end: Future[None] = self._threads.submit(
            load_rows, self._store, self._job, self._source, self._stop.is_set
        )
        self._end.add_done_callback(lambda end: on_end(end.exception() is None))

    def stop(self) -> None:
        """End soon, and wait for the end; a later loader begins anew.

        Raises:
            SteppeError: As `load_rows`; other errors of a source are raised as they are.
        """
        self._stop.set()
        self._threads.shutdown()
        self._end.result()


def load_rows(
    store: JobStore,
    job: Job,
    source: Source | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Add the rows of the input to a job, and let it go on; stops early if that is asked for.

    Args:
        store: The store of the job.
        job: The job, in the state `validating`.
        source: Returns the rows; None for those of the job's input.
        is_stopped: Whether to stop.

    Raises:
        InputChangedError: Rows that are there already are others now.
        UsageError: The input cannot be read.
    """
    spec = spec_of(job)

    def check(_: int = 0) -> None:
        if is_stopped():
            raise _StoppedError

    def rows() -> Iterator[Row | BadRow]:
        # Empty lines are no rows, so the reading is checked, too.
        source_ = open_rows(spec.input, spec.options, check) if source is None else source()
        with suppress(_StoppedError):
            for row in source_:
                check()
                yield row

    for group in _groups(rows()):
        store.add_rows(job.id, group, time.time())
    if is_stopped():
        return
    digest, states = digest_of(spec.input) if source is None else "", (JobState.VALIDATING,)
    store.change_state(job.id, JobState.IN_PROGRESS, time.time(), states, input_digest=digest)


def _groups(rows: Iterable[Row | BadRow]) -> Iterator[list[Row | BadRow]]:
    """Yield rows in groups; those of a slow source are not kept for more than about a second."""
    group: list[Row | BadRow] = []
    begun_s = time.monotonic()
    for row in rows:
        group.append(row)
        if len(group) >= _GROUP or time.monotonic() - begun_s >= _GROUP_S:
            yield group
            group, begun_s = [], time.monotonic()
    if group:
        yield group


def check_input(job: Job) -> None:
    """Check that the input of a job is the one that its rows came from.

    An input that is gone is no hindrance once all rows are in the store.

    Raises:
        InputChangedError: It is another one.
    """
    path = Path(job.input)
    if not job.input_digest or not path.exists():
        return
    if digest_of(path) != job.input_digest:
        raise changed_error(job)


def changed_error(job: Job) -> InputChangedError:
    """Return the error of an input that has changed."""
    hint = "--changed runs the rows that are new or differ, and keeps the other answers"
    return InputChangedError(f"{job.input}: asked to go on with it, found it changed; {hint}")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files, in hex.

    Raises:
        UsageError: It cannot be read.
    """
    digest = hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    try:
        for file in files:
            if path.is_dir():
                digest.update(os.fsencode(file.relative_to(path)) + b"\0")
            with file.open("rb") as content:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
    except OSError as error:
        raise UsageError(f"{path}: asked for an input, found: {error.strerror}") from error
    return digest.hexdigest()
