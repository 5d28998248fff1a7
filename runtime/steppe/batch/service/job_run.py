"""Runs one job from where it is to its end: reads its input, runs its rows, makes its files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from steppe.batch.job import ENDED, Job, JobState
from steppe.batch.runner.progress import RunProgress
from steppe.batch.runner.runner import Runner
from steppe.batch.runner.settings import RunnerSettings
from steppe.batch.service.expiry import expires_epoch_s, is_behind
from steppe.batch.service.metrics import BatchMetrics
from steppe.batch.service.result_files import ResultFiles
from steppe.batch.service.settings import BatchSettings
from steppe.batch.service.validation import StoppedError, Validation
from steppe.batch.store.job_store import JobStore
from steppe.services.tenant_header import TENANT

TIMELINES = "timelines"
"""Folder of the timelines, in that of the service."""


def timeline_path(folder: Path, job_id: str) -> Path:
    """Return where the timeline of a job is."""
    return folder / TIMELINES / f"{job_id}.jsonl"


class JobRun:
    """One job; the store says at any time how far it is, so it may be cut off anywhere."""

    def __init__(
        self,
        store: JobStore,
        job_id: str,
        settings: BatchSettings,
        metrics: BatchMetrics,
        *,
        threads: ThreadPoolExecutor,
        epoch_s: Callable[[], float],
    ) -> None:
        """Keep what to run.

        Args:
            store: Has the job.
            job_id: The job.
            settings: How the service is set up.
            metrics: Counts rows and the job.
            threads: For what takes seconds, such as reading an input; calls of the API have others.
            epoch_s: Reads the time, s since the Unix epoch.
        """
        self._store, self._id = store, job_id
        self._settings, self._metrics = settings, metrics
        self._threads, self._epoch_s = threads, epoch_s
        self._is_stopping = threading.Event()
        self._runner: Runner | None = None
        self.waits_for = ""
        self._completed = self._failed = 0
        self._deadline_epoch_s: float | None = None

    def stop(self) -> None:
        """End soon; the job goes on after the next start of the service."""
        self._is_stopping.set()
        if self._runner is not None:
            self._runner.stop()

    async def run(self) -> None:
        """Run the job to its end, or until it is stopped.

        Raises:
            JobBusyError: Another runner has it.
            GatewayRefusedError: The gateway would refuse every row.
            DiskFullError: No space is left; the job can be resumed.
            UsageError: The store cannot be used.
        """
        job, loop = await self._job(), asyncio.get_running_loop()
        if job.state is JobState.VALIDATING:
            try:
                await loop.run_in_executor(self._threads, self._validation(job).run)
            except StoppedError:
                return
            job = await self._job()
        if job.state not in ENDED:
            await self._run_rows(job)
            job = await self._job()
        if job.state is JobState.FAILED:
            self._metrics.count_job(str(job.state))
        elif job.state in ENDED:
            await loop.run_in_executor(self._threads, self._files().make)
            self._metrics.count_job(str(job.state))

    async def _run_rows(self, job: Job) -> None:
        counts = await asyncio.to_thread(self._store.counts, job.id)
        self._completed, self._failed = counts.completed, counts.failed
        self._deadline_epoch_s = job.deadline_epoch_s
        await asyncio.to_thread(self._release_lease, job.id)
        self._runner = Runner(
            self._store,
            job.id,
            self._runner_settings(job),
            on_progress=self._count,
            epoch_s=self._epoch_s,
        )
        if self._is_stopping.is_set():
            return
        end = await self._runner.run()
        self._count_rows(end.counts.completed, end.counts.failed)

    def _release_lease(self, job_id: str) -> None:
        """End the lease of a runner of an earlier process: only one service has the store."""
        owner = self._store.lease_owner(job_id, self._epoch_s())
        if owner is not None:
            self._store.end_lease(job_id, owner)

    def _runner_settings(self, job: Job) -> RunnerSettings:
        settings = self._settings
        timeline = timeline_path(settings.batch.folder, job.id)
        timeline.parent.mkdir(parents=True, exist_ok=True)
        return RunnerSettings(
            settings.gateway_url,
            headers=(*settings.secret_headers, (TENANT, job.tenant)),
            stop_grace_s=settings.grace_s,
            expires_epoch_s=expires_epoch_s(job),
            timeline=timeline,
            certificate=settings.gateway_certificate,
        )

    def _count(self, progress: RunProgress) -> None:
        is_waiting = progress.left > 0 and not progress.outstanding
        self.waits_for = progress.reason if is_waiting else ""
        late = is_behind(progress, self._deadline_epoch_s, self._epoch_s())
        self._metrics.note_behind(self._id, late)
        self._count_rows(progress.done - progress.failed, progress.failed)

    def _count_rows(self, completed: int, failed: int) -> None:
        more, more_failed = completed - self._completed, failed - self._failed
        self._metrics.count_rows(max(0, more), max(0, more_failed))
        self._completed = max(completed, self._completed)
        self._failed = max(failed, self._failed)

    def _validation(self, job: Job) -> Validation:
        batch, is_stopping = self._settings.batch, self._is_stopping.is_set
        return Validation(self._store, job, batch, self._epoch_s, is_stopping)

    def _files(self) -> ResultFiles:
        keep_s = self._settings.batch.keep_files_s
        return ResultFiles(self._store, self._id, keep_s, self._epoch_s)

    async def _job(self) -> Job:
        job = await asyncio.to_thread(self._store.job, self._id)
        assert job is not None, "a job that has not ended is not deleted"
        return job
