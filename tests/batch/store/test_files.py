from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steppe.batch.job import StoredFile
from steppe.batch.store.job_store import JobStore
from steppe.errors import UsageError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    found = JobStore(str(tmp_path / "jobs.db"))
    yield found
    found.close()


def add(store: JobStore, name: str, tenant: str = "a", expires_epoch_s: float = 99.0) -> StoredFile:
    writer = store.write_file(name)
    writer.write(b"one\n")
    writer.write(b"two\n")
    size = writer.close()
    file = StoredFile(name, tenant, "batch", "in.jsonl", size, 50.0, expires_epoch_s)
    store.add_file(file)
    return file


def test_a_file_is_there_as_a_whole_or_not_at_all(store: JobStore) -> None:
    file = add(store, "file-1")
    assert store.file("file-1") == file
    assert file.size == 8
    assert store.file_path("file-1").read_bytes() == b"one\ntwo\n"
    writer = store.write_file("file-2")
    writer.write(b"half")
    assert not store.file_path("file-2").exists()
    writer.abort()
    assert [path.name for path in store.file_path("file-2").parent.iterdir()] == ["file-1"]


def test_files_are_listed_page_by_page(store: JobStore) -> None:
    for number in range(4):
        add(store, f"file-{number}", tenant="b" if number == 2 else "a")
    assert [file.id for file in store.files("a")] == ["file-3", "file-1", "file-0"]
    assert [file.id for file in store.files("a", after="file-3", limit=1)] == ["file-1"]
    oldest = store.files("a", after="file-0", newest_first=False)
    assert [file.id for file in oldest] == ["file-1", "file-3"]
    assert store.files(purpose="batch_output") == []
    with pytest.raises(UsageError, match="after file-9, found none"):
        store.files(after="file-9")


def test_files_that_expire_are_found_and_deleted(store: JobStore) -> None:
    add(store, "file-1", expires_epoch_s=100.0)
    add(store, "file-2", expires_epoch_s=200.0)
    (expired,) = store.files(expired_by_epoch_s=150.0)
    assert expired.id == "file-1"
    assert store.delete_file("file-1")
    assert not store.delete_file("file-1")
    assert not store.file_path("file-1").exists()
    assert store.file("file-1") is None


@pytest.mark.parametrize("name", ["file-../../x", "../file-1", "file-", "file-a/b"])
def test_an_id_that_is_a_path_is_refused(store: JobStore, name: str) -> None:
    with pytest.raises(UsageError, match="found no id of a file"):
        store.file_path(name)
