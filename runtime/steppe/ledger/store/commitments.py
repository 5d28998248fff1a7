"""What the site has promised to the grid: each row is checked in the transaction that writes it.

Those that write do so one after another, in SQLite and in PostgreSQL, so what a check has read is
still so when its row is written, whichever process it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sql

from steppe.ledger.commitment import KIND, Commitment
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.store.log_entries import LogEntry
from steppe.ledger.store.movements import ConflictError
from steppe.ledger.store.tables import COMMITMENTS

Check = Callable[[Sequence[Commitment]], object]
"""Raises an error of Steppe if a commitment may not join those that are given."""


def commit(store: LedgerStore, new: Commitment, check: Check, now_us: int) -> bool:
    """Write a commitment, and log it; return whether it is new.

    Args:
        store: The store.
        new: The commitment.
        check: Called within the transaction with the commitments of the site whose watts are not
            free again when the new one begins, in the order in which they were sold. What it
            raises is raised, and nothing is written.
        now_us: The time, us since the Unix epoch.

    Raises:
        ConflictError: Another commitment has this id.
        DiskFullError: No space is left.
        UsageError: The store cannot be written.
    """
    c = COMMITMENTS.c
    with store.transaction() as transaction:
        connection = transaction.connection
        named = (c.site == new.site) & (c.id == new.id)
        before = connection.scalar(sql.select(c.bytes).where(named))
        if before is not None:
            if not new.is_same(Commitment.read(before)):
                raise ConflictError(f"asked for commitment {new.id}, found another one of this id")
            return False
        check(_of(connection, new.site, new.from_s))
        connection.execute(
            sql.insert(COMMITMENTS),
            {
                "site": new.site,
                "id": new.id,
                "taken_until_s": new.taken_until_s,
                "bytes": new.entry,
            },
        )
        name = f"{new.site}/{new.id}"
        transaction.add([LogEntry(KIND, name, "", now_us, new.entry)])
        return True


def commitments_of(store: LedgerStore, site: str, from_s: int) -> list[Commitment]:
    """Return the commitments of a site whose watts are not free again at a time.

    They are in the order in which they were sold.

    Raises:
        UsageError: The store cannot be read.
    """
    with store.reading() as connection:
        return _of(connection, site, from_s)


def _of(connection: sql.Connection, site: str, from_s: int) -> list[Commitment]:
    c = COMMITMENTS.c
    query = sql.select(c.bytes).where(c.site == site, c.taken_until_s > from_s).order_by(c.seq)
    return [Commitment.read(entry) for entry in connection.scalars(query)]
