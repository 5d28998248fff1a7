"""Reads the rows of a job into its store, while a runner works on those that are there."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from steppe.batch.job import Job, JobState
from steppe.batch.local.folder import spec_of
from steppe.batch.row import BadRow, Row
from steppe.batch.rows.read import open_rows
from steppe.batch.store.job_store import JobStore
from steppe.errors import InputChangedError, SteppeError, UsageError

_CHUNK = 1 << 20


class Loader:
    """Reads the input of a job in a thread of its own.

    Attributes:
        error: Why it ended too soon; None if it did not.
    """

    def __init__(
        self, store: JobStore, job: Job, on_end: Callable[[Loader], None] = lambda loader: None
    ) -> None:
        """Prepare.

        Args:
            store: The store of the job.
            job: The job, in the state `validating`.
            on_end: Called when all rows are in the store, or an error has come up.
        """
        self._store, self._job, self._on_end = store, job, on_end
        self.error: SteppeError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="batch-loader")

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End soon, and wait for the end; a later loader begins anew."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            load_rows(self._store, self._job, self._stop.is_set)
        except SteppeError as error:
            self.error = error
        except OSError as error:
            self.error = UsageError(f"{self._job.input}: {error.strerror or error}")
        self._on_end(self)


def load_rows(store: JobStore, job: Job, is_stopped: Callable[[], bool] = lambda: False) -> None:
    """Add the rows of the input to a job, and let it go on; stops early if it is told to.

    Raises:
        InputChangedError: Rows that are there already are others now.
        UsageError: The input cannot be read.
    """
    spec = spec_of(job)

    def rows() -> Iterator[Row | BadRow]:
        for row in open_rows(spec.input, spec.options):
            if is_stopped():
                return
            yield row

    store.add_rows(job.id, rows(), time.time())
    if is_stopped():
        return
    digest, states = digest_of(spec.input), (JobState.VALIDATING,)
    store.change_state(job.id, JobState.IN_PROGRESS, time.time(), states, input_digest=digest)


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
