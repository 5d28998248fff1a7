"""The metrics of the batch service in Prometheus' text format."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from steppe.batch.job import OPEN, RowCounts
from steppe.batch.store.job_store import JobStore


class BatchMetrics:
    """Jobs and rows; base units, counters end in `_total`."""

    def __init__(self) -> None:
        """Define them."""
        self._registry = registry = CollectorRegistry()
        self._rows = Counter(
            "steppe_batch_rows",
            "Rows of batch jobs that have ended since the service started: `completed`, `failed`.",
            ["state"],
            registry=registry,
        )
        self._ended = Counter(
            "steppe_batch_jobs_ended",
            "Batch jobs that have ended since the service started, by their last state.",
            ["state"],
            registry=registry,
        )
        self._jobs = Gauge(
            "steppe_batch_jobs", "Batch jobs that have not ended.", ["state"], registry=registry
        )
        self._waiting = Gauge(
            "steppe_batch_rows_waiting", "Rows of these jobs that wait.", registry=registry
        )
        self._running = Gauge(
            "steppe_batch_rows_running",
            "Rows of these jobs that are at the gateway, or next to go there.",
            registry=registry,
        )
        self._late = Gauge(
            "steppe_batch_jobs_behind",
            "Those of these jobs whose last row is expected after their deadline, or is due.",
            registry=registry,
        )
        self._behind: frozenset[str] = frozenset()
        for state in ("completed", "failed"):
            self._rows.labels(state)

    def count_rows(self, completed: int, failed: int) -> None:
        """Count rows that have ended."""
        self._rows.labels("completed").inc(completed)
        self._rows.labels("failed").inc(failed)

    def count_job(self, state: str) -> None:
        """Count a job that has ended."""
        self._ended.labels(state).inc()

    def note_behind(self, job_id: str, is_behind: bool) -> None:
        """Note whether a job is expected to miss its deadline; it counts while it is open."""
        self._behind = self._behind | {job_id} if is_behind else self._behind - {job_id}

    def exposition(self, open_jobs: Mapping[str, RowCounts], states: Iterable[str]) -> bytes:
        """Return all metrics.

        Args:
            open_jobs: Rows of the jobs that have not ended, by id.
            states: The state of each of them.
        """
        found = Tally(states)
        for state in OPEN:
            self._jobs.labels(str(state)).set(found[str(state)])
        self._waiting.set(sum(each.waiting for each in open_jobs.values()))
        self._running.set(sum(each.running for each in open_jobs.values()))
        self._behind &= open_jobs.keys()
        self._late.set(len(self._behind))
        return generate_latest(self._registry)

    def read(self, store: JobStore) -> bytes:
        """Return all metrics, with the present state of a store."""
        jobs = store.jobs(states=OPEN)
        counts = {job.id: store.counts(job.id) for job in jobs}
        return self.exposition(counts, (str(job.state) for job in jobs))
