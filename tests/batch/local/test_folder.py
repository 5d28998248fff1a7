"""The lock of a job's folder: one runner, and any number of looks at it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from steppe.batch.local.folder import JobFolder, JobSpec, create_folder
from steppe.batch.rows.options import RowOptions
from steppe.errors import JobBusyError


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[JobFolder]:
    options = RowOptions(model="m", endpoint="/v1/completions")
    spec = JobSpec(tmp_path / "in", tmp_path / "out", tmp_path / "errors", options)
    with create_folder(spec) as made:
        yield made


def test_a_job_is_locked_while_it_runs_and_no_longer(folder: JobFolder) -> None:
    assert not folder.is_locked()
    with folder.locked():
        assert folder.is_locked()
        with pytest.raises(JobBusyError, match="found another process that runs it"):
            folder.locked().__enter__()
        assert folder.is_locked()
    assert not folder.is_locked()


def test_a_look_at_a_job_never_refuses_its_runner(folder: JobFolder) -> None:
    has_ended = threading.Event()

    def look() -> None:
        while not has_ended.is_set():
            folder.is_locked()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(100):
            with folder.locked():
                pass
    finally:
        has_ended.set()
        thread.join()
