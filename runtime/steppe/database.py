"""A database of Steppe: SQLite, or PostgreSQL by URL; its transactions and its errors."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from steppe.errors import DiskFullError, InstallError, UsageError

WAIT_S = 60
"""Longest wait for another process that writes the same SQLite file, s."""
CACHE_KIB = 16_384
"""Pages of SQLite that a connection keeps in memory, KiB."""
WAL_PAGES = 4_096
"""Pages of 4 KiB that SQLite appends before it copies them to their places: a burst waits less."""
_KEPT = 2
"""Connections that are kept while they are idle; SQLite's have `CACHE_KIB` each."""
_LOCK = 0x7374_6570
"""Number of PostgreSQL's lock under which tables are made."""
_WRITES = "steppe_writes"


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one kind of database.

    Attributes:
        name: What messages call it, such as `batch store`.
        tables: Its tables, `about` among them.
        about: The table with one row and the column `version`.
        version: The version that this Steppe reads and writes.
        statistics: Rows of `sqlite_stat1`: table, index, and the rows that SQLite plans for.
    """

    name: str
    tables: sql.MetaData
    about: sql.Table
    version: int
    statistics: tuple[tuple[str, str | None, str], ...] = ()


def about_table(name: str, tables: sql.MetaData) -> sql.Table:
    """Return a table with one row, the version of a database; it is one of `tables`."""
    version = sql.Column("version", sql.Integer, primary_key=True, autoincrement=False)
    return sql.Table(name, tables, version)


def insert_into(connection: sql.Connection, table: sql.Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that may say what happens to a row whose key is there already."""
    is_sqlite = connection.dialect.name == "sqlite"
    return sqlite.insert(table) if is_sqlite else postgresql.insert(table)


class Database:
    """Opens transactions; the tables are made if they are missing."""

    def __init__(self, place: str, schema: Schema) -> None:
        """Open the database.

        Args:
            place: Path of an SQLite file, or a URL of SQLAlchemy.
            schema: Its tables.

        Raises:
            UsageError: It cannot be opened, or another Steppe has made it; it is as before then.
            InstallError: The driver of this database is not installed.
        """
        try:
            self._readers = sql.create_engine(_url(place), pool_size=_KEPT, pool_pre_ping=True)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise InstallError(f"{schema.name}: found no driver for it: {error}") from error
        except SQLAlchemyError as error:
            # The URL may contain a password, so it is not shown.
            raise UsageError(f"{schema.name}: asked for a path or a URL of SQLAlchemy") from error
        self._schema = schema
        self._next, self._writing = threading.Lock(), threading.Lock()
        self._writers = self._readers.execution_options(**{_WRITES: True})
        self.is_sqlite = self._readers.dialect.name == "sqlite"
        if self.is_sqlite:
            event.listen(self._readers, "connect", _prepare)
            event.listen(self._readers, "begin", _begin)
        self.name = self._readers.url.render_as_string(hide_password=True)
        self._make_tables()

    def close(self) -> None:
        """Close all connections."""
        self._readers.dispose()

    @contextmanager
    def read(self) -> Generator[sql.Connection]:
        """Open a transaction that reads; all of it sees one state.

        Raises:
            UsageError: The database cannot be read.
        """
        with self._errors(), self._readers.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Generator[sql.Connection]:
        """Open a transaction that reads one state, whatever others commit meanwhile.

        Raises:
            UsageError: The database cannot be read.
        """
        readers = self._readers
        if not self.is_sqlite:
            readers = readers.execution_options(isolation_level="REPEATABLE READ")
        with self._errors(), readers.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Generator[sql.Connection]:
        """Open a transaction that writes: all of it is on disk at its end, or nothing of it.

        Raises:
            DiskFullError: No space is left.
            UsageError: The database cannot be written.
        """
        with self._errors(), self._turn(), self._writers.begin() as connection:
            yield connection

    @contextmanager
    def _turn(self) -> Generator[None]:
        """Let threads write to SQLite one after another, each in its turn.

        SQLite has one writer. Threads that wait for it look now and then whether it is free, so
        one that writes without a pause would keep the others from it.
        """
        if not self.is_sqlite:
            yield
            return
        with self._next:
            self._writing.acquire()
        try:
            yield
        finally:
            self._writing.release()

    def _make_tables(self) -> None:
        schema = self._schema
        with self.write() as connection:
            if not self.is_sqlite:
                connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_LOCK)))
            is_there = sql.inspect(connection).has_table(schema.about.name)
            found = connection.scalar(sql.select(schema.about.c.version)) if is_there else None
            if found not in (None, schema.version):
                raise UsageError(f"{schema.name}: {self.name}: {_other_version(schema, found)}")
            schema.tables.create_all(connection)
            if found is None:
                connection.execute(sql.insert(schema.about), {"version": schema.version})
                self._add_statistics(connection)

    def _add_statistics(self, connection: sql.Connection) -> None:
        """Let SQLite plan for many rows from the first one on; PostgreSQL keeps statistics."""
        if self.is_sqlite and self._schema.statistics:
            connection.exec_driver_sql("ANALYZE")  # makes the table
            insert = "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)"
            connection.exec_driver_sql(insert, list(self._schema.statistics))
            connection.exec_driver_sql("ANALYZE sqlite_schema")  # reads it

    @contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or type(error).__name__
            message = f"{self._schema.name}: {self.name}: {str(cause).splitlines()[0]}"
            if _is_full(cause):
                raise DiskFullError(message) from error
            raise UsageError(message) from error


def _other_version(schema: Schema, found: int) -> str:
    maker = "an older" if found < schema.version else "a newer"
    return f"asked for version {schema.version}, found {found}: {maker} Steppe has made it"


def _url(place: str) -> sql.URL:
    if "://" in place:
        return sql.make_url(place)
    return sql.URL.create("sqlite", database=str(Path(place).absolute()))


def _is_full(cause: object) -> bool:
    sqlite, postgresql = getattr(cause, "sqlite_errorname", ""), getattr(cause, "sqlstate", "")
    return sqlite in ("SQLITE_FULL", "SQLITE_IOERR_WRITE") or postgresql == "53100"


def _prepare(connection: Any, _record: Any) -> None:
    """Let SQLite read while another process writes, and have each commit on disk."""
    connection.isolation_level = None  # `_begin` opens the transactions
    connection.execute(f"PRAGMA busy_timeout={WAIT_S * 1000}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
    connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")


def _begin(connection: sql.Connection) -> None:
    """Take SQLite's lock for writing at once: a reader that begins to write may be refused."""
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
