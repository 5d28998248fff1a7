from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from steppe.batch.job import Job, JobState, When
from steppe.batch.service.job_run import JobRun
from steppe.batch.service.scheduler import JobScheduler
from steppe.batch.store.job_store import JobStore
from steppe.errors import DiskFullError

JOB = Job("batch_1", "a", "m", "/v1/completions", When.NOW, 0.0, completion_window_s=3600.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    found = JobStore(str(tmp_path / "jobs.db"))
    found.add_job(JOB)
    yield found
    found.close()


class RunOnFullDisk(JobRun):
    """A run that ends its job, and can make its files the second time."""

    def __init__(self, store: JobStore, is_full: bool, done: asyncio.Event) -> None:
        self._store, self._is_full, self._done = store, is_full, done

    def stop(self) -> None:
        pass

    async def run(self) -> None:
        if self._is_full:
            self._store.change_state(JOB.id, JobState.COMPLETED, 1.0, [JOB.state])
            raise DiskFullError("no space")
        self._done.set()


async def test_a_job_that_ended_without_its_files_is_tried_again(store: JobStore) -> None:
    done, begun = asyncio.Event(), list[str]()

    def make(job_id: str) -> JobRun:
        begun.append(job_id)
        return RunOnFullDisk(store, len(begun) == 1, done)

    scheduler = JobScheduler(store, make, 1, lambda: 1.0, retry_s=0.01)
    await scheduler.start()
    async with asyncio.timeout(20):
        await done.wait()
    await scheduler.stop()
    assert begun == [JOB.id, JOB.id]
