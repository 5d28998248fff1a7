"""An audit while a run goes on: what is booked and published meanwhile is no fault."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.fixtures.ledger import BOUNDARY, FIRST_HOUR, PRICES, SITE, booked, make_receipt, publish

from steppe.ledger.booking import BookedTotals, Booking
from steppe.ledger.periods.closing import HOUR_US
from steppe.ledger.store.books import take
from steppe.ledger.store.ledger_store import LedgerStore, LogEntry
from steppe.ledger.tariff import KIND
from steppe.run.ledger_audit import audit
from steppe.run.ledger_folder import ledger_folder

BOOKINGS = 12


def go_on(folder: Path) -> None:
    """Book and publish one request after another, as a service does."""
    store, used_uj = LedgerStore(str(folder / "ledger.db")), 0
    for number in range(1, BOOKINGS + 1):
        one = make_receipt(number - 1)
        used_uj += one.energy_uj
        totals = BookedTotals({"r0": used_uj + number}, idle_uj=number)
        time_us = FIRST_HOUR * HOUR_US + number
        booking = Booking("run-1", number, time_us, BOUNDARY, (booked(one),), totals)
        with store.transaction() as transaction:
            take(transaction, booking, SITE, {PRICES.id: PRICES})
        publish(store, folder)
    store.close()


def test_an_audit_of_a_ledger_that_goes_on_finds_no_fault(tmp_path: Path) -> None:
    store = LedgerStore(str(tmp_path / "ledger.db"))
    store.add([LogEntry(KIND, PRICES.id, "", 0, PRICES.entry)])
    publish(store, tmp_path)
    store.close()
    service = threading.Thread(target=go_on, args=(tmp_path,))
    service.start()
    goes_on = True
    while goes_on:
        goes_on = service.is_alive()
        found = audit(ledger_folder(tmp_path), lambda done, size: None)
        assert found.faults == []
    service.join()
    assert found.kinds["receipt"] == BOOKINGS
    assert (found.published, found.entries) == (BOOKINGS + 1, BOOKINGS + 1)
