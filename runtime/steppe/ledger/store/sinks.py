"""How far each sink of events is: all receipts before its place were sent, in their order.

Places in the log are given under one lock, so none appears later before a place that was read.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sql

from steppe.database import insert_into
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.store.tables import ENTRIES, REFUSED_EVENTS, SINKS
from steppe.ledger.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """The event of a receipt that a sink does not take.

    Attributes:
        place: Place of the receipt in the log.
        problem: What the sink answered.
    """

    place: int
    problem: str


def receipts_to_send(store: LedgerStore, sink: str, most: int) -> list[tuple[int, bytes]]:
    """Return places and bytes of the receipts that a sink gets next.

    Raises:
        UsageError: The store cannot be read.
    """
    with store.reading() as connection:
        first = _place(connection, sink)
        query = sql.select(ENTRIES.c.seq, ENTRIES.c.bytes).where(
            ENTRIES.c.seq >= first, ENTRIES.c.kind == RECEIPT
        )
        rows = connection.execute(query.order_by(ENTRIES.c.seq).limit(most))
        return [(row.seq, row.bytes) for row in rows]


def count_to_send(store: LedgerStore, sink: str) -> int:
    """Return how many receipts a sink has still to get.

    Raises:
        UsageError: The store cannot be read.
    """
    with store.reading() as connection:
        waiting = (ENTRIES.c.seq >= _place(connection, sink)) & (ENTRIES.c.kind == RECEIPT)
        return connection.scalar(sql.select(sql.func.count()).where(waiting)) or 0


def note_sent(store: LedgerStore, sink: str, last: int) -> None:
    """Write that a sink has all receipts up to a place.

    Raises:
        DiskFullError: No space is left.
        UsageError: The store cannot be written.
    """
    with store.transaction() as transaction:
        _move(transaction, sink, last + 1)


def note_refused(store: LedgerStore, sink: str, refused: RefusedEvent) -> None:
    """Write that a sink does not take an event; it is left out, and the next one goes on.

    Raises:
        DiskFullError: No space is left.
        UsageError: The store cannot be written.
    """
    with store.transaction() as transaction:
        values = {"sink": sink, "seq": refused.place, "problem": refused.problem}
        insert = insert_into(transaction.connection, REFUSED_EVENTS).values(**values)
        transaction.connection.execute(insert.on_conflict_do_nothing())
        _move(transaction, sink, refused.place + 1)


def refused_events(store: LedgerStore, sink: str) -> list[RefusedEvent]:
    """Return the events that a sink did not take, by their place.

    Raises:
        UsageError: The store cannot be read.
    """
    c = REFUSED_EVENTS.c
    query = sql.select(c.seq, c.problem).where(c.sink == sink).order_by(c.seq)
    with store.reading() as connection:
        return [RefusedEvent(row.seq, row.problem) for row in connection.execute(query)]


def _place(connection: sql.Connection, sink: str) -> int:
    place: int | None = connection.scalar(sql.select(SINKS.c.place).where(SINKS.c.sink == sink))
    return place or 0


def _move(transaction: Transaction, sink: str, place: int) -> None:
    """Set the place of a sink; it never goes back."""
    insert = insert_into(transaction.connection, SINKS).values(sink=sink, place=place)
    transaction.connection.execute(
        insert.on_conflict_do_update(
            index_elements=["sink"],
            set_={"place": insert.excluded.place},
            where=SINKS.c.place < insert.excluded.place,
        )
    )
