"""An audit of a whole ledger: log, entries, store, accounts, and the record that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steppe.errors import SteppeError
from steppe.ledger.audit.book_audit import BookAudit, Open
from steppe.ledger.audit.energy import EnergySums, check_runs
from steppe.ledger.entries import MovementKind
from steppe.ledger.green.certificates import Certificate
from steppe.ledger.green.match import Match
from steppe.ledger.hours import RunBooks
from steppe.ledger.log.audit import check_log
from steppe.ledger.log.log import LogReader
from steppe.ledger.store.accounts import request_of
from steppe.ledger.store.snapshot import StoreSnapshot
from steppe.ledger.units import currency_of
from steppe.run.ledger_audit_green import green_faults, use_faults
from steppe.run.ledger_folder import LedgerFolder, booked_of


@dataclass(slots=True)
class Audited:
    """What an audit found.

    Attributes:
        log: Name of the log; empty if there is none.
        published: Number of entries that the signed checkpoint contains.
        entries: Number of entries, those too that are not published yet.
        kinds: How many there are of each kind.
        energy: The sums of all hours, by site and boundary; without a store those of closed ones.
        open: The receipts of hours that are not closed.
        amounts: The sum of all receipts in each currency, 10^-9 of it.
        paid: What of it was paid from accounts.
        prices: The price of each receipt with its corrections, by id.
        matches: What of the hours was matched to renewable generation.
        certificates: The certificates that they use, by id.
        accounts: Number of balances that were checked.
        runs: Number of runs of the record whose sums are those of the ledger.
        faults: What does not hold, a line each.
        notes: What could not be checked, a line each.
    """

    log: str = ""
    published: int = 0
    entries: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    energy: tuple[EnergySums, ...] = ()
    open: Mapping[tuple[str, str, int], Open] = field(default_factory=dict)
    amounts: Mapping[str, int] = field(default_factory=dict)
    paid: Mapping[str, int] = field(default_factory=dict)
    prices: Mapping[str, int] = field(default_factory=dict)
    matches: Sequence[Match] = ()
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    accounts: int = 0
    runs: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def audit(ledger: LedgerFolder, on_entries: Callable[[int, int], None]) -> Audited:
    """Check all of a ledger.

    Args:
        ledger: The ledger.
        on_entries: Called with the entries of the log checked so far, and all of them.

    Raises:
        UsageError: The store cannot be opened.
    """
    found = Audited()
    reader = _checked_log(ledger, found, on_entries)
    if ledger.store:
        with ledger.opened() as opened, opened.snapshot() as store:
            _check_store(store, reader, found)
            runs = _check_hours(store, found)
            if ledger.record is not None:
                _check_record(booked_of(ledger.record), runs, found)
            found.faults += store.audit()
            _check_paid(store, found)
            found.faults += green_faults(store, found.matches, found.certificates)
            found.accounts = len(store.balances())
    elif reader is not None:
        found.notes.append("no store: accounts and entries that are not published were not checked")
        _check_books(reader.entries(found.published), reader.entry, found)
        found.faults += use_faults(found.matches, found.certificates)
    return found


def _checked_log(
    ledger: LedgerFolder, found: Audited, on_entries: Callable[[int, int], None]
) -> LogReader | None:
    """Check hashes, tiles and the signed root; return the reader if they hold."""
    if ledger.trust is None:
        found.notes.append("no log: nothing is published yet")
        return None
    found.log, reader = ledger.trust.log, ledger.reader()
    try:
        checkpoint = reader.checkpoint()
        size = checkpoint.head.size
        check_log(ledger.log, checkpoint, lambda done: on_entries(done, size))
    except SteppeError as error:
        found.faults.append(str(error) if "log" in str(error) else f"log: {error}")
        return None
    found.published = size
    return reader


def _check_store(store: StoreSnapshot, reader: LogReader | None, found: Audited) -> None:
    """Check the entries of a store, of which the log contains the first ones."""
    logged = iter(()) if reader is None else reader.entries(found.published)
    _check_books(_same(store.entries(), logged, found), store.entry, found)
    if found.entries < found.published:
        missing = f"the store has {found.entries} entries, the log {found.published}"
        found.faults.append(f"store: {missing}")


def _check_paid(store: StoreSnapshot, found: Audited) -> None:
    """Check that no request has paid more than its receipts say; add up what was paid."""
    paid: dict[str, int] = {}
    sums: dict[str, int] = {}
    for each in store.payments():
        name = request_of(each)
        amount = each.amount if each.kind is MovementKind.CAPTURE else -each.amount
        paid[name] = paid.get(name, 0) + amount
        currency = currency_of(each.unit)
        sums[currency] = sums.get(currency, 0) + amount
    for name, amount in paid.items():
        price = found.prices.get(name)
        if price is None:
            found.faults.append(f"accounts: {amount} was paid for {name}, found no receipt of it")
        elif not 0 <= amount <= price:
            found.faults.append(f"accounts: {amount} was paid for {name}, its receipts say {price}")
    found.paid = sums


def _check_hours(store: StoreSnapshot, found: Audited) -> list[RunBooks]:
    """Add the hours that are open, and compare all hours with what the runs have counted.

    Returns:
        What the ledger has taken of the runs.
    """
    hours, runs = store.open_hours(), store.runs()
    energy = {(sums.site, sums.boundary): sums for sums in found.energy}
    rest = dict(found.open)
    for hour in hours:
        key = (hour.site, hour.boundary)
        receipts = rest.pop((*key, hour.hour), Open())
        sums = energy.get(key, EnergySums(*key))
        energy[key] = sums.plus_open(hour.sums, receipts.receipts_uj, receipts.corrections_uj)
    for site, boundary, number in rest:
        what = f"receipts of hour {number} of {site}, boundary {boundary}"
        found.faults.append(f"energy: {what}: found no counters of this hour")
    found.energy = tuple(energy.values())
    for sums in found.energy:
        found.faults += check_runs(sums, runs)
    return runs


def _check_record(
    booked: Sequence[Mapping[str, Any]], runs: Sequence[RunBooks], found: Audited
) -> None:
    """Compare what the runs of a record say that they have booked with what the ledger has."""
    taken = {run.run: run for run in runs}
    for one in booked:
        where, run = f"record: run {one['run']}", taken.get(one["run"])
        if not one.get("has_ended", True):
            found.notes.append(f"{where}: it was killed, so its last sums are not compared")
            continue
        if run is None:
            found.faults.append(f"{where}: found no booking of it in the ledger")
            continue
        own = {
            "requests_uj": run.requests_uj,
            "meter_uj": sum(run.totals.meters.values()),
            "idle_uj": run.totals.idle_uj,
            "transition_uj": run.totals.transition_uj,
            "unclaimed_uj": run.totals.unclaimed_uj,
        }
        wrong = {name: value for name, value in own.items() if one[name] != value}
        found.runs += not wrong
        if wrong and (waiting := one.get("waiting", 0)):
            found.notes.append(f"{where}: {waiting} requests wait for the next run of its ledger")
            continue
        for name, value in wrong.items():
            found.faults.append(f"{where}: {name} {one[name]}, found {value} in the ledger")


def _same(entries: Iterator[bytes], logged: Iterator[bytes], found: Audited) -> Iterator[bytes]:
    for place, entry in enumerate(entries):
        other = next(logged, entry)
        if other != entry:
            found.faults.append(f"entry {place}: the store and the log have different bytes of it")
        yield entry


def _check_books(
    entries: Iterator[bytes], entry_at: Callable[[int], bytes], found: Audited
) -> None:
    books = BookAudit(entry_at)
    for place, entry in enumerate(entries):
        books.take(place, entry)
        found.entries = place + 1
    found.kinds, found.amounts, found.open = books.kinds, books.amounts, books.open
    found.energy, found.prices = tuple(books.energy.values()), books.prices
    found.matches, found.certificates = books.matches, books.certificates
    found.faults += books.faults
