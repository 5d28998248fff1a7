"""The right of one service to run the jobs of a store."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sql

from steppe.batch.store.part import StorePart
from steppe.batch.store.tables import ABOUT, SERVICES
from steppe.errors import StoreBusyError

_ROW = 1
"""The table has one row, of this number."""


class ServiceLeasePart(StorePart):
    """Gives the store to one service at a time."""

    def lease_store(self, owner: str, now_epoch_s: float, ttl_s: float) -> None:
        """Take or renew the right to run the jobs of this store.

        Args:
            owner: A name of this service that no other has.
            now_epoch_s: The time, s.
            ttl_s: How long the right lasts, s.

        Raises:
            StoreBusyError: Another service has it.
        """
        until_s = now_epoch_s + ttl_s
        with self._database.write() as connection:
            # Services that start at the same time wait here for one another.
            connection.execute(sql.select(ABOUT.c.version).with_for_update())
            found = connection.execute(sql.select(SERVICES)).mappings().one_or_none()
            if found is not None and found["owner"] != owner:
                other_until_s = found["until_epoch_s"]
                if other_until_s > now_epoch_s:
                    until = datetime.fromtimestamp(other_until_s, UTC).isoformat(timespec="seconds")
                    message = f"found it in use by another run until {until}"
                    raise StoreBusyError(f"batch.store: asked for {self._database.name}, {message}")
            connection.execute(sql.delete(SERVICES))
            row = {"number": _ROW, "owner": owner, "until_epoch_s": until_s}
            connection.execute(sql.insert(SERVICES), row)

    def end_store_lease(self, owner: str) -> bool:
        """Give the right back; return whether this owner had it."""
        with self._database.write() as connection:
            ended = sql.delete(SERVICES).where(SERVICES.c.owner == owner)
            return bool(connection.execute(ended).rowcount)
