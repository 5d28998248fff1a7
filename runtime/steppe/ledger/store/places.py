"""Entries of the store by their places, as settlements between sites ask for them."""

from __future__ import annotations

import sqlalchemy as sql

from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.store.tables import ENTRIES


def receipts_between(
    connection: sql.Connection, tenant: str, first: int, until: int, most: int
) -> list[tuple[int, bytes]]:
    """Return places and bytes of a tenant's receipts in a range of places, in order.

    Args:
        connection: A transaction that reads.
        tenant: The tenant.
        first: First place.
        until: Place at which the range ends.
        most: Most receipts.
    """
    c = ENTRIES.c
    # The range is short, and the tenant may have many entries before it: read it by place.
    own = sql.and_(c.kind + "" == RECEIPT, c.tenant + "" == tenant)
    query = sql.select(c.seq, c.bytes).where(c.seq >= first, c.seq < until, own)
    rows = connection.execute(query.order_by(c.seq).limit(most))
    return [(row.seq, row.bytes) for row in rows]


def receipts_named(
    connection: sql.Connection, tenant: str, name: str, until: int
) -> list[tuple[int, bytes]]:
    """Return places and bytes of a tenant's receipts of a request before a place, in order."""
    c = ENTRIES.c
    query = sql.select(c.seq, c.bytes).where(
        c.tenant == tenant, c.name == name, c.kind == RECEIPT, c.seq < until
    )
    return [(row.seq, row.bytes) for row in connection.execute(query.order_by(c.seq))]


def entry_of(connection: sql.Connection, kind: str, id_: str) -> tuple[int, bytes] | None:
    """Return place and bytes of an entry by its id; None if there is none."""
    c = ENTRIES.c
    query = sql.select(c.seq, c.bytes).where(c.kind == kind, c.id == id_)
    row = connection.execute(query).first()
    return None if row is None else (row.seq, row.bytes)


def entries_after(
    connection: sql.Connection, kind: str, after_us: int, until_us: int
) -> list[bytes]:
    """Return the entries of a kind whose times are after one time and not after another, us."""
    c = ENTRIES.c
    query = sql.select(c.bytes).where(c.kind == kind, c.time_us > after_us, c.time_us <= until_us)
    return list(connection.scalars(query.order_by(c.seq)))


def last_of(connection: sql.Connection, kind: str, prefix: str) -> bytes | None:
    """Return the entry with the highest id of those that begin so; None without any."""
    c = ENTRIES.c
    after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    query = sql.select(c.bytes).where(c.kind == kind, c.id >= prefix, c.id < after)
    found: bytes | None = connection.scalar(query.order_by(c.id.desc()).limit(1))
    return found
