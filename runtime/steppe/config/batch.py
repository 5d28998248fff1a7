"""The Batch API of a run: where its jobs and files are, and how large they may be."""

from __future__ import annotations

from pydantic import model_validator

from steppe.config.section import Count, FilePath, Positive, Section

_DAY_S = 86_400.0


class BatchSection(Section):
    """The Batch API, `/v1/files` and `/v1/batches`. Without this section both answer 404."""

    folder: FilePath
    """Folder of the files that clients upload and of those with the results; relative to this
    file. It is made if it is missing. A run that starts again with it goes on with its jobs."""
    store: str | None = None
    """The database of the jobs: an SQLite file (relative to this file), or a URL of SQLAlchemy such
    as `postgresql+psycopg://steppe@db/steppe` (extra `postgres`). `jobs.db` in the folder if
    absent."""
    lines: Count = 50_000
    """Most requests of one job."""
    file_bytes: Count = 200 << 20
    """Largest file of requests, bytes. It is written to the folder as it arrives and takes no
    memory."""
    tenant_bytes: Count = 10 << 30
    """Most bytes of all files of one tenant, results included. Beyond it uploads and new jobs get
    a 429 until files are deleted; a job that runs is always finished."""
    jobs_per_tenant: Count = 100
    """Most jobs of one tenant that have not ended; a further one gets a 429."""
    running_jobs: Count = 16
    """Most jobs whose rows are sent at the same time; the tenants take turns, and the oldest job of
    each goes first."""
    uploads: Count = 8
    """Most uploads at one time; a further one gets a 503."""
    upload_idle_s: Positive = 30.0
    """Longest time in which an upload may bring nothing, s; then it gets a 408."""
    least_window_s: Positive = 3600.0
    """Least `completion_window` of a job, s. It is `24h`, or any number of `m`, `h` or `d`."""
    most_window_s: Positive = 30 * _DAY_S
    """Largest `completion_window` of a job, s."""
    keep_files_s: Positive = 30 * _DAY_S
    """Files are deleted this long after their upload, s, unless the client asks for another time.
    The input of a job is kept until the job has ended."""
    keep_jobs_s: Positive = 90 * _DAY_S
    """Jobs, with their rows, are deleted this long after they have ended, s."""

    @model_validator(mode="after")
    def _window_range(self) -> BatchSection:
        if self.least_window_s > self.most_window_s:
            raise ValueError(
                "least_window_s: asked for at most most_window_s, "
                f"{self.most_window_s:g} s, found {self.least_window_s:g} s"
            )
        return self
