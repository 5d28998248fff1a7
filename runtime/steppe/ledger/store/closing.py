"""Closes the hours of a site in the store, one after another; none is left out.

What is green of an hour is matched in the transaction that writes its period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sql

from steppe.ledger.green.hourly import HourEnergy
from steppe.ledger.hours import HourSums
from steppe.ledger.periods.closing import Counters, close_hour, closes_us, last_closed
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.periods.period import Meter, Period
from steppe.ledger.receipt import Receipt
from steppe.ledger.store.books import Hour, keep_hour, receipts_of_hour, row_of_hour
from steppe.ledger.store.green import match_hour
from steppe.ledger.store.log_entries import LogEntry
from steppe.ledger.store.tables import ENTRIES, HOURS
from steppe.ledger.store.transaction import Transaction


def due(connection: sql.Connection, now_us: int) -> list[tuple[str, str, int]]:
    """Return site, boundary and hour of what is to be closed next, one of each.

    Every hour from the first one of a site on is closed, with or without work in it.
    """
    c = HOURS.c
    closed = sql.func.max(sql.case((c.closed == 1, c.hour))).label("closed")
    query = sql.select(c.site, c.boundary, sql.func.min(c.hour).label("first"), closed)
    rows = connection.execute(query.group_by(c.site, c.boundary).order_by(c.site, c.boundary))
    found = [
        (row.site, row.boundary, row.first if row.closed is None else row.closed + 1)
        for row in rows
    ]
    return [each for each in found if each[2] <= last_closed(now_us)]


@dataclass(frozen=True, slots=True)
class Closed:
    """An hour that was closed.

    Attributes:
        period: Its period.
        sums: What was counted in it.
        receipts: Its receipts and corrections, by their place in the log.
    """

    period: Period
    sums: HourSums
    receipts: Sequence[Receipt]


def close(transaction: Transaction, site: str, boundary: str, hour: int, now_us: int) -> Closed:
    """Write the period of an hour, which follows the last one that is closed, and match the hour.

    Raises:
        PeriodError: It is not closed yet, or its book does not add up.
    """
    connection = transaction.connection
    before = _period(connection, f"{site}/{boundary}/{hour - 1}")
    kept = row_of_hour(connection, site, boundary, hour)
    if kept is None:
        carried_uj = 0 if before is None else before.carried_out_uj
        sums = HourSums(carried_in_uj=carried_uj, carried_out_uj=carried_uj)
        kept = Hour(site, boundary, hour, sums)
    receipts = receipts_of_hour(connection, site, boundary, hour)
    period = close_hour(_counters(kept), receipts, before, now_us)
    transaction.add([LogEntry(PERIOD, period.id, "", closes_us(hour), period.entry)])
    keep_hour(transaction, replace(kept, is_closed=True))
    match_hour(transaction, period, receipts, _energy(kept.sums), now_us)
    return Closed(period, kept.sums, receipts)


def _period(connection: sql.Connection, id_: str) -> Period | None:
    named = (ENTRIES.c.kind == PERIOD) & (ENTRIES.c.id == id_)
    entry = connection.scalar(sql.select(ENTRIES.c.bytes).where(named))
    return None if entry is None else Period.read(entry)


def _energy(sums: HourSums) -> HourEnergy:
    """Return what the site used and had; where that is unknown, its meters are its load."""
    return HourEnergy(
        sums.site_uj or sums.meter_uj, sums.supply_uj, sums.charged_uj, sums.stored_uj
    )


def _counters(hour: Hour) -> Counters:
    sums = hour.sums
    return Counters(
        hour.site,
        hour.boundary,
        hour.hour,
        tuple(Meter.between(name, *sums.meters[name]) for name in sorted(sums.meters)),
        sums.idle_uj,
        sums.transition_uj,
        sums.waste_uj,
        sums.carried_in_uj,
        sums.carried_out_uj,
    )
