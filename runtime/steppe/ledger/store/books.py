"""What the store keeps of runs and hours, and how a booking gets there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
import sqlalchemy as sql

from steppe.database import insert_into
from steppe.ledger.admission import Payer
from steppe.ledger.booking import BookedRequest, BookedTotals, Booking
from steppe.ledger.hours import HourSums, RunBooks
from steppe.ledger.periods.closing import HOUR_US, hour_of
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.receipt import Receipt
from steppe.ledger.receipts_of import Place, is_served, receipts_of, waste_uj
from steppe.ledger.store.log_entries import LogEntry
from steppe.ledger.store.movements import ConflictError
from steppe.ledger.store.tables import ENTRIES, HOURS, NUMBERS, RUNS
from steppe.ledger.store.transaction import Transaction
from steppe.ledger.tariff import Tariff


@dataclass(frozen=True, slots=True)
class BookingResult:
    """What a booking has changed.

    Attributes:
        number: Number of the last booking of the run that the ledger has.
        receipts: Receipts that were written.
        unpriced: How many of them have no price, as the rate of their admission does not hold.
    """

    number: int
    receipts: Sequence[Receipt] = ()
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour of a site, as the store keeps it.

    Attributes:
        site: The site.
        boundary: What its meters enclose.
        hour: The hour, hours since the Unix epoch.
        sums: What was counted in it.
        is_closed: Whether it has its period.
    """

    site: str
    boundary: str
    hour: int
    sums: HourSums
    is_closed: bool = False


def take(
    transaction: Transaction, booking: Booking, site: str, tariffs: Mapping[str, Tariff]
) -> BookingResult:
    """Write what a booking brings: receipts, what they cost, and the sums of its hour.

    A booking that was taken before changes nothing, and neither does one that comes too early:
    those from the number after the returned one on are to be handed over again.

    Args:
        transaction: A transaction that writes.
        booking: The booking.
        site: The site.
        tariffs: All tariffs, by id.

    Raises:
        ConflictError: Another booking had this number.
        UsageError: A total falls, or more is claimed than the meters have counted.
    """
    digest = hashlib.sha256(orjson.dumps(booking)).hexdigest()
    before = run_books(transaction.connection, booking.run)
    if before is None:
        before = RunBooks(booking.run, site, booking.boundary)
    if booking.number == before.number and digest != before.digest:
        asked = f"asked to take booking {booking.number}"
        raise ConflictError(f"run {booking.run}: {asked}, found another one of this number")
    if booking.number != before.number + 1:
        return BookingResult(before.number)
    time_us = booking.time_us
    if before.number == 0:
        _end_others(transaction, booking.run, site, time_us)
    hour = open_hour(transaction.connection, site, before.boundary, hour_of(time_us))
    new = _new(transaction, booking.requests)
    after = before.after(booking, sum(each.energy_uj for each in new), digest)
    receipts = _write_receipts(transaction, new, hour, tariffs, time_us)
    sums = hour.sums.plus(before, after, waste_uj(new))
    keep_hour(transaction, replace(hour, sums=sums))
    _keep_run(transaction, after)
    unpriced = sum(each.terms != "" for each in filter(is_served, new))
    unpriced -= sum(each.tariff != "" for each in receipts)
    return BookingResult(after.number, receipts, unpriced)


def run_books(connection: sql.Connection, run: str) -> RunBooks | None:
    """Return what the ledger has taken of a run; None if nothing."""
    query = sql.select(RUNS.c.books).where(RUNS.c.run == run).with_for_update()
    books = connection.scalar(query)
    return None if books is None else _run_books(books)


def hours(
    connection: sql.Connection, site: str, boundary: str | None = None, *, is_closed: bool = False
) -> list[Hour]:
    """Return the hours of a site that are closed or not, oldest first."""
    query = sql.select(HOURS).where(HOURS.c.site == site, HOURS.c.closed == int(is_closed))
    if boundary is not None:
        query = query.where(HOURS.c.boundary == boundary)
    rows = connection.execute(query.order_by(HOURS.c.hour))
    return [_hour(row) for row in rows]


def open_hours(connection: sql.Connection) -> list[Hour]:
    """Return the hours of all sites that are not closed, oldest first."""
    query = sql.select(HOURS).where(HOURS.c.closed == 0).order_by(HOURS.c.hour)
    return [_hour(row) for row in connection.execute(query)]


def all_runs(connection: sql.Connection) -> list[RunBooks]:
    """Return what the ledger has taken of all runs."""
    books = connection.scalars(sql.select(RUNS.c.books).order_by(RUNS.c.run))
    return [_run_books(each) for each in books]


def open_hour(connection: sql.Connection, site: str, boundary: str, now: int) -> Hour:
    """Return the hour in which something is booked now; a new one carries what is open.

    It is not before the last one of the site, even if the clock was set back, and not closed.
    """
    c = HOURS.c
    query = sql.select(HOURS).where(c.site == site, c.boundary == boundary)
    row = connection.execute(query.order_by(c.hour.desc()).limit(1)).first()
    if row is None:
        return Hour(site, boundary, now, HourSums())
    last = _hour(row)
    if not last.is_closed and now <= last.hour:
        return last
    carried_uj = last.sums.carried_out_uj
    sums = HourSums(
        carried_in_uj=carried_uj, carried_out_uj=carried_uj, stored_uj=last.sums.stored_uj
    )
    return Hour(site, boundary, max(now, last.hour + 1), sums)


def row_of_hour(connection: sql.Connection, site: str, boundary: str, hour: int) -> Hour | None:
    """Return what the store keeps of an hour; None if nothing was booked in it."""
    c = HOURS.c
    query = sql.select(HOURS).where(c.site == site, c.boundary == boundary, c.hour == hour)
    row = connection.execute(query).first()
    return None if row is None else _hour(row)


def keep_hour(transaction: Transaction, hour: Hour) -> None:
    """Write an hour."""
    values = {
        "site": hour.site,
        "boundary": hour.boundary,
        "hour": hour.hour,
        "closed": int(hour.is_closed),
        "sums": orjson.dumps(hour.sums),
    }
    changed = {"sums": values["sums"], "closed": values["closed"]}
    _upsert(transaction, HOURS, values, ["site", "boundary", "hour"], changed)


def receipts_of_hour(
    connection: sql.Connection, site: str, boundary: str, hour: int
) -> list[Receipt]:
    """Return the receipts and corrections of an hour, by their place in the log."""
    c = ENTRIES.c
    query = sql.select(c.bytes).where(
        c.kind == RECEIPT, c.time_us >= hour * HOUR_US, c.time_us < (hour + 1) * HOUR_US
    )
    found = [Receipt.read(entry) for entry in connection.scalars(query.order_by(c.seq))]
    return [each for each in found if (each.site, each.boundary) == (site, boundary)]


def count_of_hour(connection: sql.Connection, hour: int) -> int:
    """Return how many receipts and corrections all sites of the store have in an hour."""
    c = ENTRIES.c
    query = sql.select(sql.func.count()).where(
        c.kind == RECEIPT, c.time_us >= hour * HOUR_US, c.time_us < (hour + 1) * HOUR_US
    )
    return int(connection.scalar(query) or 0)


def next_numbers(transaction: Transaction, site: str, count: int) -> int:
    """Return the number of the next receipt of a site, and leave out so many of them."""
    query = sql.select(NUMBERS.c.receipts).where(NUMBERS.c.site == site).with_for_update()
    first = transaction.connection.scalar(query) or 0
    values = {"site": site, "receipts": first + count}
    _upsert(transaction, NUMBERS, values, ["site"], {"receipts": first + count})
    return int(first)


def _end_others(transaction: Transaction, run: str, site: str, time_us: int) -> None:
    """End the runs of a site at which another one begins: what they left open is unclaimed."""
    query = sql.select(RUNS.c.books).where(RUNS.c.site == site, RUNS.c.run != run)
    for books in [_run_books(each) for each in transaction.connection.scalars(query)]:
        if books.open_uj:
            connection, ended = transaction.connection, books.ended()
            hour = open_hour(connection, site, books.boundary, hour_of(time_us))
            keep_hour(transaction, replace(hour, sums=hour.sums.plus(books, ended, 0)))
            _keep_run(transaction, ended)


def _new(transaction: Transaction, requests: Sequence[BookedRequest]) -> list[BookedRequest]:
    """Return those requests that have no receipt yet."""
    ids = [each.id for each in requests]
    transaction.load(ids)
    transaction.entries.load(RECEIPT, ids)
    new = {each.id: each for each in requests if transaction.entries.find(RECEIPT, each.id) is None}
    return list(new.values())


def _write_receipts(
    transaction: Transaction,
    requests: Sequence[BookedRequest],
    hour: Hour,
    tariffs: Mapping[str, Tariff],
    time_us: int,
) -> list[Receipt]:
    seq = next_numbers(transaction, hour.site, sum(map(is_served, requests)))
    receipts = receipts_of(requests, Place(hour.site, hour.boundary, hour.hour, seq), tariffs)
    inside_us = min(max(time_us, hour.hour * HOUR_US), (hour.hour + 1) * HOUR_US - 1)
    for each in receipts:
        entry = LogEntry(RECEIPT, each.id, each.tenant, inside_us, each.entry, each.request)
        tokens = each.prompt_tokens + each.output_tokens
        payer = Payer(each.tenant, each.currency) if each.currency else None
        transaction.end_request(each.id, each.amount_nano, [entry], time_us, tokens, payer=payer)
    for request in requests:
        if not is_served(request):
            transaction.give_back(request.id, time_us)
    return receipts


def _keep_run(transaction: Transaction, books: RunBooks) -> None:
    values = {"run": books.run, "site": books.site, "books": orjson.dumps(books)}
    _upsert(transaction, RUNS, values, ["run"], {"books": values["books"]})


def _upsert(
    transaction: Transaction,
    table: sql.Table,
    values: Mapping[str, Any],
    key: Sequence[str],
    changed: Mapping[str, Any],
) -> None:
    insert = insert_into(transaction.connection, table).values(**values)
    transaction.connection.execute(
        insert.on_conflict_do_update(index_elements=list(key), set_=dict(changed))
    )


def _run_books(books: bytes) -> RunBooks:
    values = orjson.loads(books)
    return RunBooks(**{**values, "totals": BookedTotals(**values["totals"])})


def _hour(row: sql.Row[Any]) -> Hour:
    sums = orjson.loads(row.sums)
    sums["meters"] = {name: tuple(readings) for name, readings in sums["meters"].items()}
    return Hour(row.site, row.boundary, row.hour, HourSums(**sums), bool(row.closed))
