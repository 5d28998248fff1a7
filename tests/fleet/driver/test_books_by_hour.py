"""Meters of nodes, accounts of the driver, steps to the ledger, sums of an hour: exact in uJ."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.fleet_messages import finished_request, replica_report

from steppe.engine.control_block import request_key
from steppe.fleet.driver.accounts import Accounts
from steppe.fleet.driver.outbox import BooksOutbox
from steppe.fleet.messages import ReplicaReport
from steppe.ledger.booking import BookedTotals, Booking
from steppe.ledger.hours import HourSums, RunBooks
from steppe.ledger.periods.closing import HOUR_US, hour_of

START_US = 490_000 * HOUR_US
NAMES = ("a", "b", "c", "d")
uj = st.integers(-2, 10**9)


def report_of(
    replica: str, requests_uj: dict[str, int], idle_uj: int, transition_uj: int, metered_uj: int
) -> ReplicaReport:
    return replica_report(
        replica,
        energy_j=metered_uj / 1e6 + 3e-7,
        requests_uj={request_key(name): energy for name, energy in requests_uj.items()},
        idle_uj=idle_uj,
        transition_uj=transition_uj,
    )


reports = st.builds(
    report_of,
    st.sampled_from(("replica-1", "replica-2")),
    st.dictionaries(st.sampled_from(NAMES), uj, max_size=4),
    uj,
    uj,
    st.integers(-2, 3 * 10**9),
)
polls = st.lists(
    st.tuples(
        st.lists(reports, max_size=3),
        st.lists(st.sampled_from(NAMES), max_size=2),
        st.sampled_from((1_000, HOUR_US // 2, HOUR_US, 3 * HOUR_US, -HOUR_US)),
    ),
    max_size=12,
)


def counted(accounts: Accounts) -> BookedTotals:
    return BookedTotals(
        accounts.meters_uj, accounts.idle_uj, accounts.transition_uj, accounts.unclaimed_uj
    )


@settings(deadline=None)
@given(polls)
def test_each_hour_adds_up_to_its_meters_with_what_is_carried(
    happened: list[tuple[list[ReplicaReport], list[str], int]],
) -> None:
    accounts, outbox = Accounts("emulated", 1000.0, models={}), BooksOutbox("run", "gpu")
    now_us, bookings = START_US, list[Booking]()
    for number, (came, ended, later_us) in enumerate(happened):
        now_us += later_us
        accounts.add(came)
        accounts.finish([finished_request(name) for name in ended])
        accounts.close_tick(20.0 * number)
        accounts.drop_unclaimed(NAMES[:2])
        outbox.add(accounts.take_booked(), counted(accounts), now_us)
        outbox.seal(float(number))
        bookings += outbox.sealed
        outbox.sealed.clear()
    accounts.close()
    outbox.add(accounts.take_booked(), counted(accounts), now_us)
    outbox.seal(1e6, is_last=True)
    check_hours([*bookings, *outbox.sealed], accounts)


def check_hours(bookings: list[Booking], accounts: Accounts) -> None:
    """Take bookings as the ledger does, and check the sums of every hour after each of them."""
    books, hours = RunBooks("run", "hohhot", "gpu"), dict[int, HourSums]()
    receipts_uj: defaultdict[int, int] = defaultdict(int)
    unclaimed_uj: defaultdict[int, int] = defaultdict(int)
    for booking in bookings:
        hour, energy_uj = hour_of(booking.time_us), sum(r.energy_uj for r in booking.requests)
        after = books.after(booking, energy_uj, "")
        carried_uj = books.open_uj
        sums = hours.get(hour, HourSums(carried_in_uj=carried_uj, carried_out_uj=carried_uj))
        hours[hour] = sums.plus(books, after, waste_uj=0)
        receipts_uj[hour] += energy_uj
        more_uj = after.totals.unclaimed_uj - books.totals.unclaimed_uj
        unclaimed_uj[hour] += more_uj + after.given_up_uj - books.given_up_uj
        books = after
        for number, found in hours.items():
            used_uj = receipts_uj[number] + found.idle_uj + found.transition_uj
            given_uj = used_uj + unclaimed_uj[number] + found.carried_out_uj
            assert found.carried_in_uj + found.meter_uj == given_uj
            assert min(found.carried_in_uj, found.carried_out_uj, found.meter_uj) >= 0
    assert (books.open_uj, books.given_up_uj) == (0, 0), "the last step leaves nothing open"
    assert sum(sums.meter_uj for sums in hours.values()) == accounts.energy_uj
