"""The files of the Batch API: what they are in a table, their contents in a folder."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from steppe.batch.job import StoredFile
from steppe.batch.store.part import StorePart
from steppe.batch.store.tables import FILES
from steppe.database import Database
from steppe.disk import disk_errors, sync_folder
from steppe.errors import UsageError

_ID = re.compile(r"file-[A-Za-z0-9_]{1,58}")
_FIELDS = tuple(field.name for field in fields(StoredFile))


class FileWriter:
    """Writes the content of a new file; it is there as a whole after `close`, or not at all."""

    def __init__(self, path: Path) -> None:
        """Begin a file.

        Raises:
            DiskFullError: No space is left.
            UsageError: It cannot be written.
        """
        self._path, self._part = path, path.with_name(path.name + ".part")
        self.size = 0
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("wb")

    def write(self, data: bytes) -> None:
        """Add bytes to it.

        Raises:
            DiskFullError: No space is left; `abort` removes what was written.
            UsageError: It cannot be written.
        """
        with disk_errors(self._path):
            self._file.write(data)
        self.size += len(data)

    def close(self) -> int:
        """Let the file be there; return its size, bytes.

        Raises:
            DiskFullError: No space is left; `abort` removes what was written.
            UsageError: It cannot be written.
        """
        with disk_errors(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self._path)
            sync_folder(self._path.parent)
        return self.size

    def abort(self) -> None:
        """Remove what was written."""
        self._part.unlink(missing_ok=True)
        # The buffer may have no place on a full disk.
        with contextlib.suppress(OSError):
            self._file.close()


class FilePart(StorePart):
    """Adds, lists and deletes files."""

    def __init__(self, database: Database, folder: Path | None) -> None:
        super().__init__(database)
        self._folder = folder

    def file_path(self, file_id: str) -> Path:
        """Return where the content of a file is, or will be.

        Raises:
            UsageError: The store has no folder, or this is no id of a file.
        """
        if self._folder is None:
            raise UsageError("batch store: asked for a file, found no folder for contents of files")
        if not _ID.fullmatch(file_id):
            raise UsageError(f"asked for file {file_id[:80]!r}, found no id of a file")
        return self._folder / file_id

    def write_file(self, file_id: str) -> FileWriter:
        """Begin the content of a file; `add_file` after it makes the file known.

        Raises:
            DiskFullError: No space is left.
            UsageError: It cannot be written.
        """
        return FileWriter(self.file_path(file_id))

    def add_file(self, file: StoredFile) -> None:
        """Make a file known whose content is there; one of the same id is replaced."""
        with self._database.write() as connection:
            connection.execute(sql.delete(FILES).where(FILES.c.id == file.id))
            connection.execute(sql.insert(FILES), asdict(file))

    def file(self, file_id: str) -> StoredFile | None:
        """Return a file; None if there is none of this id."""
        with self._database.read() as connection:
            row = connection.execute(_select().where(FILES.c.id == file_id)).one_or_none()
        return None if row is None else StoredFile(*row)

    def files(
        self,
        tenant: str | None = None,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int | None = None,
        newest_first: bool = True,
        expired_by_epoch_s: float | None = None,
    ) -> list[StoredFile]:
        """Return files.

        Args:
            tenant: Whose; None for those of all.
            purpose: Of which purpose; None for any.
            after: Id of the file after which they begin.
            limit: Most that are returned.
            newest_first: Their order.
            expired_by_epoch_s: Only those that expire by this time, s.

        Raises:
            UsageError: There is no file of the id `after`.
        """
        number = FILES.c.number
        found = _select().order_by(number.desc() if newest_first else number).limit(limit)
        if tenant is not None:
            found = found.where(FILES.c.tenant == tenant)
        if purpose is not None:
            found = found.where(FILES.c.purpose == purpose)
        if expired_by_epoch_s is not None:
            found = found.where(FILES.c.expires_epoch_s <= expired_by_epoch_s)
        with self._database.read() as connection:
            if after is not None:
                last = connection.scalar(sql.select(number).where(FILES.c.id == after))
                if last is None:
                    raise UsageError(f"asked for files after {after}, found none of this id")
                found = found.where(number < last if newest_first else number > last)
            return [StoredFile(*row) for row in connection.execute(found)]

    def file_bytes(self, tenant: str) -> int:
        """Return the size of all files of a tenant, bytes."""
        size = sql.func.coalesce(sql.func.sum(FILES.c.size), 0)
        with self._database.read() as connection:
            return int(
                connection.execute(sql.select(size).where(FILES.c.tenant == tenant)).scalar_one()
            )

    def delete_file(self, file_id: str) -> bool:
        """Delete a file and its content; return whether there was one."""
        path = self.file_path(file_id)
        with self._database.write() as connection:
            known = connection.execute(sql.delete(FILES).where(FILES.c.id == file_id)).rowcount
        path.unlink(missing_ok=True)
        return bool(known)


def _select() -> sql.Select[Any]:
    return sql.select(*(FILES.c[name] for name in _FIELDS))
