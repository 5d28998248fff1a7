"""A store of jobs: the truth about every row, on disk before a runner goes on."""

from __future__ import annotations

from pathlib import Path

from steppe.batch.store.files import FilePart
from steppe.batch.store.jobs import JobPart
from steppe.batch.store.results import ResultPart
from steppe.batch.store.rows import RowPart
from steppe.batch.store.service_lease import ServiceLeasePart
from steppe.batch.store.tables import SCHEMA
from steppe.database import Database


class JobStore(JobPart, RowPart, ResultPart, FilePart, ServiceLeasePart):
    """Jobs with their rows, results and files, in SQLite or PostgreSQL.

    Every call is one transaction or a few, and may wait for the disk. Threads and processes may
    share a store. Output files are made from it, so they may be lost.
    """

    def __init__(self, place: str, folder: Path | None = None) -> None:
        """Open a store; it is made if it is missing.

        Args:
            place: Path of an SQLite file, or a URL of SQLAlchemy.
            folder: Folder for the contents of files; None for `PLACE.files` beside an SQLite file.

        Raises:
            UsageError: It cannot be opened.
            InstallError: The driver of this database is not installed.
        """
        database = Database(place, SCHEMA)
        if folder is None and "://" not in place:
            folder = Path(f"{place}.files")
        FilePart.__init__(self, database, folder)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()
