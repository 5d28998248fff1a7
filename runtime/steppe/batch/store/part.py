"""What the parts of a store have in common: the database, and the numbers of its jobs."""

from __future__ import annotations

import sqlalchemy as sql

from steppe.batch.store.tables import JOBS
from steppe.database import Database
from steppe.errors import UsageError


class StorePart:
    """Reads and changes some tables of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database


def number_of(connection: sql.Connection, job_id: str) -> int:
    """Return the number that stands for a job in all other tables.

    Raises:
        UsageError: There is no such job.
    """
    found = connection.scalar(sql.select(JOBS.c.number).where(JOBS.c.id == job_id))
    if found is None:
        raise UsageError(f"asked for job {job_id}, found none of this id")
    return int(found)
