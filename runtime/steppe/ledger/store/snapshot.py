"""One state of a store, for those that read all of it while others go on writing."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sql

from steppe.ledger.entries import Movement
from steppe.ledger.hours import RunBooks
from steppe.ledger.receipt import Receipt
from steppe.ledger.store import accounts
from steppe.ledger.store.balances import Balance
from steppe.ledger.store.books import Hour, all_runs, open_hours, receipts_of_hour
from steppe.ledger.store.tables import ENTRIES

CHUNK = 1_000
"""Entries that are read at once."""


class StoreSnapshot:
    """Reads a store within one transaction."""

    def __init__(self, connection: sql.Connection) -> None:
        """Use a transaction that sees one state."""
        self._connection = connection

    def entry(self, place: int) -> bytes:
        """Return the bytes of the entry at a place that there is."""
        found: bytes = self._connection.scalars(
            sql.select(ENTRIES.c.bytes).where(ENTRIES.c.seq == place)
        ).one()
        return found

    def entries(self) -> Iterator[bytes]:
        """Yield the bytes of all entries, by their place."""
        first, c = 0, ENTRIES.c
        while True:
            query = sql.select(c.bytes).where(c.seq >= first).order_by(c.seq).limit(CHUNK)
            found = list(self._connection.scalars(query))
            if not found:
                return
            yield from found
            first += len(found)

    def find(self, kind: str, id_: str) -> bytes | None:
        """Return the bytes of an entry; None if there is none."""
        named = (ENTRIES.c.kind == kind) & (ENTRIES.c.id == id_)
        found: bytes | None = self._connection.scalar(sql.select(ENTRIES.c.bytes).where(named))
        return found

    def receipts_of_hour(self, site: str, boundary: str, hour: int) -> list[Receipt]:
        """Return the receipts and corrections of an hour, by their place in the log."""
        return receipts_of_hour(self._connection, site, boundary, hour)

    def open_hours(self) -> list[Hour]:
        """Return the hours of all sites that are not closed, oldest first."""
        return open_hours(self._connection)

    def runs(self) -> list[RunBooks]:
        """Return what the ledger has taken of all runs."""
        return all_runs(self._connection)

    def payments(self) -> list[Movement]:
        """Return what requests have paid and got back, in money and tokens."""
        return accounts.payments(self._connection)

    def balances(self) -> list[Balance]:
        """Return the balances of all accounts."""
        return accounts.balances(self._connection)

    def audit(self) -> list[str]:
        """Return what is wrong with the accounts; nothing if all balances are right."""
        return accounts.audit(self._connection)
