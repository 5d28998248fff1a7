"""Inputs of jobs that hold much more than they show."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from steppe.batch.job import Job, JobState, When
from steppe.batch.service.validation import StoppedError, Validation
from steppe.batch.store.job_store import JobStore
from steppe.config import BatchSection

MIB = 1 << 20
JOB = Job("batch_1", "a", "", "/v1/completions", When.DEADLINE, 1.0, input="file-1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(str(tmp_path / "jobs.sqlite"))
    store.add_job(JOB)
    yield store
    store.close()


def validation(store: JobStore, content: bytes, stops_after: int = 1_000_000) -> Validation:
    path = store.file_path("file-1")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(content))
    asked = iter(range(stops_after))
    batch = BatchSection(folder=path.parent, file_bytes=MIB)
    return Validation(store, JOB, batch, lambda: 1.0, lambda: next(asked, None) is None)


@pytest.mark.parametrize("content", [(b" " * 63 + b"\n") * (MIB // 16), b"a" * (4 * MIB)])
def test_a_packed_file_without_requests_is_too_large_when_unpacked(
    store: JobStore, content: bytes
) -> None:
    validation(store, content).run()
    job = store.job("batch_1")
    assert job is not None
    assert job.state is JobState.FAILED
    assert job.error == "asked for a file of at most 3145728 bytes when unpacked, found more"


def test_a_service_that_stops_reads_no_more_empty_lines(store: JobStore) -> None:
    with pytest.raises(StoppedError):
        validation(store, b"\n" * (2 * MIB), stops_after=2).run()
