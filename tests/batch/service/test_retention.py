from __future__ import annotations

from pathlib import Path

import pytest

from steppe.batch.job import Job, JobState, StoredFile, When
from steppe.batch.service.job_run import timeline_path
from steppe.batch.service.retention import delete_leftovers, delete_old
from steppe.batch.store.job_store import JobStore
from steppe.config import BatchSection

KEEP_S = 100.0


@pytest.fixture
def batch(tmp_path: Path) -> BatchSection:
    return BatchSection(folder=tmp_path, keep_jobs_s=KEEP_S)


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(str(tmp_path / "jobs.db"), tmp_path / "files")


def add_file(store: JobStore, id_: str, expires_s: float) -> Path:
    writer = store.write_file(id_)
    writer.write(b"{}\n")
    store.add_file(StoredFile(id_, "a", "batch", "in.jsonl", writer.close(), 0.0, expires_s))
    return store.file_path(id_)


def add_job(
    store: JobStore, id_: str, state: JobState, input_: str = "", *, has_files: bool = True
) -> None:
    entered = {state: 0.0}
    store.add_job(
        Job(
            id_,
            "a",
            "m",
            "/v1/completions",
            When.DEADLINE,
            0.0,
            input=input_,
            state=state,
            entered=entered,
            settings={"has_files": has_files},
        )
    )


def test_files_are_deleted_when_they_expire(store: JobStore, batch: BatchSection) -> None:
    old, new = add_file(store, "file-1", 10.0), add_file(store, "file-2", 20.0)
    assert delete_old(store, batch, 10.0) == (1, 0)
    assert (old.exists(), new.exists()) == (False, True)
    assert [file.id for file in store.files()] == ["file-2"]


def test_the_input_of_a_job_that_is_read_stays(store: JobStore, batch: BatchSection) -> None:
    add_file(store, "file-1", 10.0)
    add_job(store, "batch_1", JobState.VALIDATING, "file-1")
    assert delete_old(store, batch, 10.0) == (0, 0)
    store.change_state("batch_1", JobState.IN_PROGRESS, 11.0, [JobState.VALIDATING])
    assert delete_old(store, batch, 11.0) == (1, 0)


def test_jobs_are_deleted_some_time_after_their_end(store: JobStore, batch: BatchSection) -> None:
    add_job(store, "batch_1", JobState.COMPLETED)
    add_job(store, "batch_2", JobState.IN_PROGRESS)
    timeline = timeline_path(batch.folder, "batch_1")
    timeline.parent.mkdir()
    timeline.touch()
    assert delete_old(store, batch, KEEP_S - 1) == (0, 0)
    assert delete_old(store, batch, KEEP_S) == (0, 1)
    assert [job.id for job in store.jobs()] == ["batch_2"]
    assert not timeline.exists()


def test_a_job_whose_files_are_not_made_stays(store: JobStore, batch: BatchSection) -> None:
    for number, state in enumerate((JobState.COMPLETED, JobState.FAILED)):  # a failed one has none
        add_job(store, f"batch_{number}", state, has_files=False)
    assert delete_old(store, batch, KEEP_S) == (0, 1)
    assert [job.id for job in store.jobs()] == ["batch_0"]
    store.update_job("batch_0", settings={"has_files": True})
    assert delete_old(store, batch, KEEP_S) == (0, 1)


def test_what_a_killed_process_was_writing_is_deleted(store: JobStore) -> None:
    folder = add_file(store, "file-1", 10.0).parent
    for name in ("file-2.part", "other"):
        (folder / name).touch()
    assert delete_leftovers(store, folder) == 1
    assert {path.name for path in folder.iterdir()} == {"file-1", "other"}


def test_a_content_that_no_table_knows_is_deleted(store: JobStore) -> None:
    folder = add_file(store, "file-1", 10.0).parent
    store.write_file("file-2").close()  # killed before `add_file`
    assert delete_leftovers(store, folder) == 1
    assert [path.name for path in folder.iterdir()] == ["file-1"]


def test_contents_stay_if_the_store_is_a_new_one(store: JobStore, tmp_path: Path) -> None:
    folder = add_file(store, "file-1", 10.0).parent
    new = JobStore(str(tmp_path / "new.db"), folder)
    assert delete_leftovers(new, folder) == 0
    assert [path.name for path in folder.iterdir()] == ["file-1"]
    new.close()
