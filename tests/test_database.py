from __future__ import annotations

import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from tests.fixtures.postgresql import postgresql

from steppe.batch.job import Job, When
from steppe.batch.row import RowResult, make_row
from steppe.batch.store.job_store import JobStore
from steppe.errors import DiskFullError, InstallError, UsageError
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.sites.settlement.store import SettlementStore


class Closes(Protocol):
    """An open store."""

    def close(self) -> None: ...


JOB, PATH = "batch_1", "/v1/completions"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def opened(place: str, rows: int) -> JobStore:
    store = JobStore(place)
    store.add_job(Job(JOB, "a", "m", PATH, When.NOW, 0.0))
    store.add_rows(JOB, [make_row(number, f"{number}", PATH, {}) for number in range(rows)])
    return store


def test_a_full_disk_takes_back_the_whole_call(tmp_path: Path) -> None:
    store = opened(str(tmp_path / "jobs.db"), 4)
    store.finish(JOB, [RowResult(0, "0", 200)])
    many = [RowResult(number, f"{number}", 200, body=b"x" * 400_000) for number in (1, 2, 3)]
    size = (tmp_path / "jobs.db-wal").stat().st_size
    with largest_file(size + 500_000), pytest.raises(DiskFullError, match="batch store"):
        store.finish(JOB, many)
    assert [one.result.number for one in store.results(JOB)] == [0]
    assert store.finish(JOB, many) == 3
    assert store.counts(JOB).completed == 4
    store.close()


def claim_from_two_runners(place: str, rows: int) -> None:
    """Let two runners claim and finish at once; each row is claimed and finished by one."""
    first, second = opened(place, rows), JobStore(place)
    claimed: list[int] = []

    def run(store: JobStore, owner: str) -> None:
        while claims := store.claim(JOB, 3, owner):
            numbers = [claim.row.number for claim in claims]
            claimed.extend(numbers)
            store.finish(JOB, [RowResult(number, f"{number}", 200) for number in numbers])

    threads = [
        threading.Thread(target=run, args=(store, name))
        for store, name in ((first, "a"), (second, "b"), (first, "c"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(rows))
    stored = list(second.results(JOB))
    assert [one.sequence for one in stored] == list(range(1, rows + 1))
    first.close()
    second.close()


def test_runners_that_claim_at_once_share_the_rows(tmp_path: Path) -> None:
    claim_from_two_runners(str(tmp_path / "jobs.db"), 60)


@pytest.mark.slow
def test_runners_share_the_rows_of_postgresql() -> None:
    with postgresql() as url:
        claim_from_two_runners(url, 300)


def test_processes_that_open_a_new_store_at_once_make_it_once(tmp_path: Path) -> None:
    place, stores = str(tmp_path / "jobs.db"), []
    threads = [threading.Thread(target=lambda: stores.append(JobStore(place))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 4
    for store in stores:
        store.close()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of store: how it is opened in a folder, and where its version stands."""

    open: Callable[[Path], Closes]
    file: str
    about: str
    version: int


KINDS = [
    Kind(lambda folder: JobStore(str(folder / "jobs.db")), "jobs.db", "steppe_batch_about", 1),
    Kind(lambda folder: LedgerStore(str(folder / "l.db")), "l.db", "steppe_ledger_about", 2),
    Kind(SettlementStore, "settlement.db", "steppe_settlement_about", 1),
]


def tables_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
        return sorted(row[0] for row in found)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.file)
@pytest.mark.parametrize(("step", "maker"), [(-1, "an older"), (1, "a newer")])
def test_a_store_of_another_version_is_refused_in_one_line_and_left_as_it_is(
    tmp_path: Path, kind: Kind, step: int, maker: str
) -> None:
    kind.open(tmp_path).close()
    path = tmp_path / kind.file
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE {kind.about} SET version = {kind.version + step}")
        (lost, *_) = [name for name in tables_in(connection) if name != kind.about]
        connection.execute(f"DROP TABLE {lost}")  # as if this release had added it
    before = tables_of(path)
    with pytest.raises(UsageError) as caught:
        kind.open(tmp_path)
    (line,) = str(caught.value).splitlines()
    asked = f"asked for version {kind.version}, found {kind.version + step}"
    assert line.endswith(f"{asked}: {maker} Steppe has made it")
    assert str(path) in line
    assert tables_of(path) == before


def tables_in(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [name for (name,) in found if not name.startswith("sqlite_")]


def test_an_error_never_shows_the_password_of_the_url() -> None:
    for url in (
        "nosuch://u:hidden@h/d",
        "postgresql+psycopg://u:hidden@127.0.0.1:1/d",
        "://hidden",
    ):
        with pytest.raises((UsageError, InstallError)) as caught:
            JobStore(url)
        assert "hidden" not in str(caught.value)


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_text("no database, but a text that is long enough " * 50)
    with pytest.raises(UsageError, match=r"jobs\.db: file is not a database"):
        JobStore(str(tmp_path / "jobs.db"))
    with pytest.raises(UsageError, match="nowhere"):
        JobStore(str(tmp_path / "nowhere" / "jobs.db"))
