"""Bookings and hours in the store: exact, in any order of clocks, and without a missing hour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.postgresql import postgresql
from tests.ledger.service.running import HOUR, NOON_US, booked, booking

from steppe.ledger.booking import Booking
from steppe.ledger.periods.checking import check_chain, check_period
from steppe.ledger.periods.closing import HOUR_US
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.periods.period import Period
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.receipt import Receipt
from steppe.ledger.store.books import BookingResult, hours, run_books, take
from steppe.ledger.store.closing import close, due, prepare
from steppe.ledger.store.ledger_store import LedgerStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LedgerStore]:
    opened = LedgerStore(str(tmp_path / "ledger.db"))
    yield opened
    opened.close()


def book(store: LedgerStore, booking: Booking) -> BookingResult:
    with store.transaction() as transaction:
        return take(transaction, booking, "hohhot", {})


def close_all(store: LedgerStore, now_us: int) -> list[Period]:
    closed: list[Period] = []
    while True:
        with store.reading() as connection:
            found = due(connection, now_us)
        if not found:
            return closed
        for site, boundary, hour in found:
            with store.transaction() as transaction:
                closed.append(close(transaction, site, boundary, hour, now_us).period)


def check(store: LedgerStore) -> None:
    """Check every period against the receipts of its hour, and that none is missing."""
    entries = store.of_kind(PERIOD)
    receipts = [Receipt.read(each) for each in store.of_kind(RECEIPT)]
    before = None
    for entry in entries:
        hour = Period.read(entry).hour
        check_period(entry, [each for each in receipts if each.hour == hour], before)
        before = entry
    check_chain(entries)
    assert [each.seq for each in receipts] == list(range(len(receipts)))


def at(hours_later: int, minutes: int = 0) -> int:
    return NOON_US + hours_later * HOUR_US + minutes * 60_000_000


def test_every_hour_from_the_first_one_on_is_closed(store: LedgerStore) -> None:
    book(store, booking(1, booked("a", 300), metered_uj=1_000, idle_uj=100))
    book(store, booking(2, booked("b", 500), metered_uj=1_200, idle_uj=150, time_us=at(2)))
    assert close_all(store, at(1, 59)) == []
    (first,) = close_all(store, at(2))
    assert (first.hour, first.receipts_uj, first.carried_out_uj) == (HOUR, 300, 600)
    assert (first.idle_uj, first.unclaimed_uj, first.meter_uj) == (100, 0, 1_000)
    empty, second, third = close_all(store, at(5))
    assert (empty.receipts, empty.meter_uj) == (0, 0)
    assert (empty.carried_in_uj, empty.carried_out_uj) == (600, 600)
    assert (second.receipts_uj, second.meter_uj, second.carried_out_uj) == (500, 200, 250)
    assert (third.hour, third.carried_in_uj, third.carried_out_uj) == (HOUR + 3, 250, 250)
    check(store)


def test_what_is_open_at_the_end_of_a_run_is_unclaimed(store: LedgerStore) -> None:
    book(store, booking(1, booked("a", 300), metered_uj=1_000))
    book(store, booking(2, metered_uj=1_100, unclaimed_uj=10, time_us=at(1), is_last=True))
    first, second = close_all(store, at(3))
    assert (first.unclaimed_uj, first.carried_out_uj) == (0, 700)
    assert (second.unclaimed_uj, second.carried_in_uj, second.carried_out_uj) == (800, 700, 0)
    check(store)


def test_another_run_at_the_site_ends_the_one_before(store: LedgerStore) -> None:
    book(store, booking(1, booked("a", 300), metered_uj=1_000))
    book(store, booking(1, booked("b", 50), metered_uj=60, time_us=at(1), run="run-2"))
    first, second = close_all(store, at(3))
    assert (first.carried_out_uj, second.carried_in_uj) == (700, 700)
    assert (second.unclaimed_uj, second.carried_out_uj) == (700, 10)
    check(store)


def test_energy_of_what_failed_is_waste(store: LedgerStore) -> None:
    book(store, booking(1, booked("a", 300, finish="abort"), metered_uj=1_000, is_last=True))
    (period,) = close_all(store, at(2))
    assert (period.receipts, period.receipts_uj) == (1, 0)
    assert (period.waste_uj, period.unclaimed_uj) == (300, 700)
    check(store)


def test_a_booking_of_a_closed_hour_is_in_the_next_open_one(store: LedgerStore) -> None:
    book(store, booking(1, booked("a", 300), metered_uj=1_000))
    close_all(store, at(3))
    (late,) = book(store, booking(2, booked("b", 400), metered_uj=1_000, time_us=at(0, 5))).receipts
    assert late.hour == HOUR + 2
    close_all(store, at(5))
    check(store)


def test_a_clock_that_is_set_back_keeps_the_hour(store: LedgerStore) -> None:
    book(store, booking(1, booked("a", 300), metered_uj=1_000, time_us=at(1)))
    (later,) = book(store, booking(2, booked("b", 1), metered_uj=1_001, time_us=at(-3))).receipts
    assert later.hour == HOUR + 1
    assert [each.hour for each in close_all(store, at(3))] == [HOUR + 1]
    check(store)


def test_a_book_that_was_prepared_too_early_is_prepared_again(store: LedgerStore) -> None:
    book(store, booking(1, booked("a", 300), metered_uj=1_000))
    for number, is_late in ((2, False), (3, True)):
        with store.reading() as connection:
            prepared = prepare(connection, "hohhot", "gpu", HOUR + number - 2, at(9))
        if is_late:
            book(store, booking(2, booked("b", 5), metered_uj=1_000, time_us=at(1)))
        with store.transaction() as transaction:
            hour = HOUR + number - 2
            closed = close(transaction, "hohhot", "gpu", hour, at(9), prepared=prepared)
        assert (closed.period is prepared.period) is not is_late
        assert len(closed.receipts) == 1
    check(store)


def test_an_hour_has_the_receipts_that_its_own_transaction_brings(store: LedgerStore) -> None:
    book(store, booking(1, booked("a", 300), metered_uj=1_000))
    with store.transaction() as transaction:
        take(transaction, booking(2, booked("b", 200), metered_uj=1_000), "hohhot", {})
        for hour in (HOUR, HOUR + 1):
            close(transaction, "hohhot", "gpu", hour, at(3))
    check(store)
    assert [Period.read(each).receipts for each in store.of_kind(PERIOD)] == [2, 0]


def test_boundaries_have_books_of_their_own(store: LedgerStore) -> None:
    book(store, booking(1, booked("a", 300), metered_uj=1_000, is_last=True))
    other = booking(1, booked("b", 7), metered_uj=10, run="run-2")
    book(store, Booking("run-2", 1, at(0), "node", other.requests, other.totals))
    found = {each.boundary: each for each in close_all(store, at(2))}
    assert (found["gpu"].receipts, found["gpu"].meter_uj) == (1, 1_000)
    assert (found["node"].receipts, found["node"].carried_out_uj) == (1, 3)
    with store.reading() as connection:
        assert [each.is_closed for each in hours(connection, "hohhot")] == []


def test_names_that_are_not_ascii_are_escaped(store: LedgerStore) -> None:
    (receipt,) = book(store, booking(1, booked("a", 0, request="é" * 200))).receipts
    assert receipt.request == ("\\xe9" * 200)[:128]
    assert store.find(RECEIPT, "lab", receipt.request) is not None


steps = st.lists(
    st.tuples(
        st.integers(0, 90),  # minutes since the step before
        st.lists(st.integers(0, 500), max_size=3),  # uJ of requests that end
        st.integers(0, 900),  # uJ more that the meter counts
        st.booleans(),  # whether it is handed over twice
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=12, deadline=None)
@given(steps)
def test_any_bookings_add_up(steps: Sequence[tuple[int, list[int], int, bool]]) -> None:
    with TemporaryDirectory() as folder:
        store = LedgerStore(str(Path(folder) / "ledger.db"))
        try:
            book_and_check(store, steps)
        finally:
            store.close()


def book_and_check(store: LedgerStore, steps: Sequence[tuple[int, list[int], int, bool]]) -> None:
    number = minutes = metered_uj = claimed_uj = 0
    for later, energies, more_uj, is_twice in steps:
        number, minutes = number + 1, minutes + later
        claimed_uj += sum(energies)
        metered_uj = max(metered_uj + more_uj, claimed_uj)
        requests = [booked(f"{number}-{n}", each) for n, each in enumerate(energies)]
        step = booking(number, *requests, metered_uj=metered_uj, time_us=at(0, minutes))
        for _ in range(1 + is_twice):
            assert book(store, step).number == number
        close_all(store, at(0, minutes))
    number += 1
    last = booking(number, metered_uj=metered_uj, time_us=at(0, minutes), is_last=True)
    book(store, last)
    close_all(store, at(10, minutes))
    check(store)
    periods = [Period.read(each) for each in store.of_kind(PERIOD)]
    assert sum(each.receipts_uj for each in periods) == claimed_uj
    assert sum(each.unclaimed_uj for each in periods) == metered_uj - claimed_uj
    assert periods[-1].carried_out_uj == 0
    with store.reading() as connection:
        books = run_books(connection, "run-1")
    assert books is not None
    assert books.open_uj == 0


@pytest.mark.slow
def test_bookings_and_hours_on_postgresql() -> None:
    with postgresql() as url:
        store = LedgerStore(url)
        for _ in range(2):
            book(store, booking(1, booked("a", 300), metered_uj=1_000, idle_uj=100))
            book(store, booking(2, booked("b", 500), metered_uj=1_200, time_us=at(2), idle_uj=100))
        assert len(close_all(store, at(5))) == 4
        check(store)
        assert store.audit() == []
        store.close()
