"""Runs the jobs of the store that have not ended; a job that fails is tried again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from steppe.batch.job import ENDED, OPEN, Job, JobState
from steppe.batch.service.job_run import JobRun
from steppe.batch.service.turns import next_jobs
from steppe.batch.store.job_store import JobStore
from steppe.errors import SteppeError

LOOK_S = 2.0
"""Time between two looks for jobs, s; a new job is seen at once."""
RETRY_S = 10.0
"""A job that could not go on is tried again after this time, s."""
STOP_S = 7.0
"""Longest wait for jobs to stop, s."""

_log = logging.getLogger(__name__)


class JobScheduler:
    """Starts jobs, and starts them again."""

    def __init__(
        self,
        store: JobStore,
        make: Callable[[str], JobRun],
        most: int,
        epoch_s: Callable[[], float],
        *,
        retry_s: float = RETRY_S,
    ) -> None:
        """Start nothing yet.

        Args:
            store: Has the jobs.
            make: Makes the run of a job, by its id.
            most: Most jobs that run at the same time.
            epoch_s: Reads the time, s since the Unix epoch.
            retry_s: A job that could not go on is tried again after this time, s.
        """
        self._store, self._make, self._most = store, make, most
        self._epoch_s, self._retry_s = epoch_s, retry_s
        self._running: dict[str, tuple[Job, JobRun, asyncio.Task[None]]] = {}
        self._not_before_s: dict[str, float] = {}
        self._without_files: list[Job] = []
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Go on with all jobs that have not ended, or whose files are not made."""
        ended = await asyncio.to_thread(self._store.jobs, states=ENDED - {JobState.FAILED})
        self._without_files = [job for job in ended if not job.settings.get("has_files")]
        self._loop = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Look for jobs now."""
        self._wake.set()

    def waits_for(self, job_id: str) -> str:
        """Return why no row of a job is at the gateway; empty if one is, or it does not run."""
        found = self._running.get(job_id)
        return "" if found is None else found[1].waits_for

    async def stop(self) -> None:
        """Stop all jobs; they go on after the next start."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        tasks = [task for _, _, task in self._running.values()]
        for _, run, _ in self._running.values():
            run.stop()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_S)
            for task in late:
                task.cancel()
            await asyncio.wait(tasks)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._look()
            except SteppeError as error:  # the store does not answer now
                _log.warning("batch jobs: %s", error)
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        found = await asyncio.to_thread(self._store.jobs, states=OPEN)
        now_s = time.monotonic()
        known = {job.id: job for job in [*self._without_files, *found]}
        ready = [
            job
            for job in known.values()
            if job.id not in self._running and self._not_before_s.get(job.id, now_s) <= now_s
        ]
        running = [job for job, _, _ in self._running.values()]
        for job in next_jobs(ready, running, self._most, self._epoch_s()):
            run = self._make(job.id)
            task = asyncio.create_task(run.run())
            self._running[job.id] = job, run, task
            task.add_done_callback(partial(self._ended, job.id))

    def _ended(self, job_id: str, task: asyncio.Task[None]) -> None:
        job, _, _ = self._running.pop(job_id)
        self._wake.set()
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._not_before_s.pop(job_id, None)
            self._without_files = [job for job in self._without_files if job.id != job_id]
            return
        if all(each.id != job_id for each in self._without_files):
            self._without_files.append(job)  # it may have ended, and lack only its files
        self._not_before_s[job_id] = time.monotonic() + self._retry_s
        trace = None if isinstance(error, SteppeError) else error
        _log.warning("job %s is tried again: %s", job_id, error, exc_info=trace)
