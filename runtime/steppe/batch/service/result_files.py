"""Makes the output file and the error file of a job from the store, when its rows have ended."""

from __future__ import annotations

from collections.abc import Callable

from steppe.batch.job import Job, StoredFile
from steppe.batch.output.lines import output_line
from steppe.batch.service.files_api import OUTPUT
from steppe.batch.store.files import FileWriter
from steppe.batch.store.job_store import JobStore
from steppe.errors import UsageError

_CHUNK_BYTES = 1 << 20


class ResultFiles:
    """The files of one job; a job that has begun them twice has them once."""

    def __init__(
        self, store: JobStore, job_id: str, keep_s: float, epoch_s: Callable[[], float]
    ) -> None:
        """Make nothing yet.

        Args:
            store: Has the job.
            job_id: The job, with ids for its files in its settings.
            keep_s: When the files may be deleted, s after they were made, if the client has not
                said.
            epoch_s: Reads the time, s since the Unix epoch.
        """
        self._store, self._id = store, job_id
        self._keep_s, self._epoch_s = keep_s, epoch_s

    def make(self) -> None:
        """Make the files; a file without a line is left out.

        Raises:
            DiskFullError: No space is left; the job can be resumed.
        """
        job = self._store.job(self._id)
        if job is None:
            raise UsageError(f"asked for job {self._id}, found none of this id")
        if job.settings.get("has_files"):
            return
        outputs, errors = self._write(job)
        self._store.update_job(
            job.id,
            output=outputs,
            error_output=errors,
            settings={**job.settings, "has_files": True},
        )

    def _write(self, job: Job) -> tuple[str, str]:
        """Write both files in one pass; return their ids, empty for one without a line."""
        names = (str(job.settings["output_id"]), str(job.settings["error_id"]))
        files = [_LineFile(self._store.write_file(name)) for name in names]
        is_done = False
        try:
            for stored in self._store.results(job.id):
                files[stored.result.failed].add(output_line(stored.result, job.id))
            sizes = [file.close() for file in files]
            is_done = True
        finally:
            if not is_done:
                for file in files:
                    file.writer.abort()
        ends = zip(names, ("output", "error"), sizes, strict=True)
        outputs, errors = (self._add(job, *end) for end in ends)
        return outputs, errors

    def _add(self, job: Job, id_: str, kind: str, size: int | None) -> str:
        if size is None:
            return ""
        now_s = self._epoch_s()
        keep_s = float(job.settings.get("output_expires_s") or self._keep_s)
        filename = f"{job.id}_{kind}.jsonl"
        self._store.add_file(
            StoredFile(id_, job.tenant, OUTPUT, filename, size, now_s, now_s + keep_s)
        )
        return id_


class _LineFile:
    """Collects lines and writes them in large pieces."""

    def __init__(self, writer: FileWriter) -> None:
        self.writer = writer
        self._waiting = bytearray()
        self._has_lines = False

    def add(self, line: bytes) -> None:
        self._waiting += line
        self._has_lines = True
        if len(self._waiting) >= _CHUNK_BYTES:
            self.writer.write(bytes(self._waiting))
            self._waiting.clear()

    def close(self) -> int | None:
        """Return the size of the file, bytes; None if it has no line and is not there."""
        if not self._has_lines:
            self.writer.abort()
            return None
        self.writer.write(bytes(self._waiting))
        return self.writer.close()
