"""Closes the hours of a site in the store, one after another; none is left out.

What is green of an hour is matched in the transaction that writes its period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sql

from steppe.ledger.green.hourly import HourEnergy, ReceiptLoad, loads_of
from steppe.ledger.green.match import Match
from steppe.ledger.hours import HourSums
from steppe.ledger.periods.closing import Counters, close_hour, closes_us, last_closed
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.periods.period import Meter, Period
from steppe.ledger.receipt import Receipt
from steppe.ledger.store.books import Hour, count_of_hour, keep_hour, receipts_of_hour, row_of_hour
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
class PreparedHour:
    """The book of an hour before it is written.

    Attributes:
        hour: The hour, as the store keeps it.
        is_kept: Whether anything was booked in it.
        count: Receipts of the hour in the store, of other sites too.
        period: Its period.
        receipts: Its receipts and corrections, by their place in the log.
        loads: Their energy within the hour.
    """

    hour: Hour
    is_kept: bool
    count: int
    period: Period
    receipts: Sequence[Receipt]
    loads: Sequence[ReceiptLoad]


@dataclass(frozen=True, slots=True)
class Closed:
    """An hour that was closed.

    Attributes:
        period: Its period.
        sums: What was counted in it.
        receipts: Its receipts and corrections, by their place in the log.
        match: What of it is green; None without load and supply.
    """

    period: Period
    sums: HourSums
    receipts: Sequence[Receipt]
    match: Match | None = None


def prepare(
    connection: sql.Connection, site: str, boundary: str, hour: int, now_us: int
) -> PreparedHour:
    """Return the book of an hour, which follows the last one that is closed.

    An hour has any number of receipts, so this may take seconds: others go on writing meanwhile.

    Raises:
        PeriodError: It is not closed yet, or its book does not add up.
    """
    before = _period(connection, f"{site}/{boundary}/{hour - 1}")
    found = row_of_hour(connection, site, boundary, hour)
    kept = found
    if kept is None:
        carried_uj = 0 if before is None else before.carried_out_uj
        sums = HourSums(carried_in_uj=carried_uj, carried_out_uj=carried_uj)
        kept = Hour(site, boundary, hour, sums)
    receipts = receipts_of_hour(connection, site, boundary, hour)
    period = close_hour(_counters(kept), receipts, before, now_us)
    return PreparedHour(
        hour=kept,
        is_kept=found is not None,
        count=count_of_hour(connection, hour),
        period=period,
        receipts=receipts,
        loads=loads_of(period, receipts),
    )


def close(
    transaction: Transaction,
    site: str,
    boundary: str,
    hour: int,
    now_us: int,
    *,
    prepared: PreparedHour | None = None,
) -> Closed:
    """Write the period of an hour, which follows the last one that is closed, and match the hour.

    Args:
        transaction: A transaction that writes.
        site: The site.
        boundary: What its meters enclose.
        hour: The hour, hours since the Unix epoch.
        now_us: The time, us since the Unix epoch.
        prepared: Its book, if that was prepared; it is prepared again if something has changed.

    Raises:
        PeriodError: It is not closed yet, or its book does not add up.
    """
    transaction.write()  # what it has added so far is in the book
    connection = transaction.connection
    if prepared is None or not _is_current(connection, prepared):
        prepared = prepare(connection, site, boundary, hour, now_us)
    kept, period = prepared.hour, prepared.period
    transaction.add([LogEntry(PERIOD, period.id, "", closes_us(hour), period.entry)])
    keep_hour(transaction, replace(kept, is_closed=True))
    energy = _energy(kept.sums)
    match = match_hour(transaction, period, prepared.receipts, energy, now_us, loads=prepared.loads)
    return Closed(period, kept.sums, prepared.receipts, match)


def _is_current(connection: sql.Connection, prepared: PreparedHour) -> bool:
    """Return whether an hour is as it was when its book was prepared."""
    hour = prepared.hour
    found = row_of_hour(connection, hour.site, hour.boundary, hour.hour)
    if found != (hour if prepared.is_kept else None):
        return False
    return count_of_hour(connection, hour.hour) == prepared.count


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
