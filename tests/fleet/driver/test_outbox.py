from __future__ import annotations

import logging
import pickle
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import steppe.fleet.driver.outbox as outbox_module
from steppe.fleet.driver.outbox import BOOK_S, CHUNK, MOST_SEALED, TOTALS_S, BooksOutbox
from steppe.ledger.booking import BookedRequest, BookedTotals, Booking
from steppe.ledger.periods.closing import HOUR_US, hour_of

START_US = 490_000 * HOUR_US


def request(number: int, energy_uj: int = 7) -> BookedRequest:
    return BookedRequest(
        id=f"e{number}",
        request=f"r{number}",
        tenant="lab",
        model="small",
        priority="standard",
        prompt_tokens=12,
        cached_tokens=0,
        output_tokens=5,
        energy_uj=energy_uj,
        energy_source="emulated",
        started_us=START_US,
        ended_us=START_US + 1_000_000,
        finish="stop",
        first_us=START_US + 1,
        terms="flat/0",
    )


def totals(meter_uj: int, idle_uj: int = 0) -> BookedTotals:
    return BookedTotals(
        meters={"replica-1": meter_uj}, idle_uj=idle_uj, supply_uj={"wind": meter_uj}
    )


@dataclass
class Ledger:
    """Takes each number once, and refuses another booking of the same number."""

    taken: list[Booking] = field(default_factory=list)

    def take(self, booking: Booking) -> int:
        if booking.number <= len(self.taken):
            assert booking == self.taken[booking.number - 1], "another booking of this number"
        elif booking.number == len(self.taken) + 1:
            self.taken.append(booking)
        return len(self.taken)

    @property
    def requests(self) -> list[str]:
        return [each.id for booking in self.taken for each in booking.requests]


def hand_over(outbox: BooksOutbox, ledger: Ledger) -> None:
    for booking in list(outbox.sealed):
        outbox.acknowledge(ledger.take(booking))


def test_a_step_waits_a_second_with_requests_and_longer_without() -> None:
    outbox = BooksOutbox("run", "gpu")
    outbox.add([], totals(1), START_US)
    outbox.seal(0.0)
    assert [each.number for each in outbox.sealed] == [1]
    outbox.add([request(1)], totals(9), START_US + 1)
    outbox.seal(BOOK_S / 2)
    assert len(outbox.sealed) == 1
    outbox.seal(BOOK_S)
    assert [len(each.requests) for each in outbox.sealed] == [0, 1]
    outbox.add([], totals(10), START_US + 2)
    outbox.seal(BOOK_S + TOTALS_S / 2)
    assert len(outbox.sealed) == 2
    outbox.seal(BOOK_S + TOTALS_S)
    assert len(outbox.sealed) == 3


def test_a_step_lies_in_one_hour_and_the_first_of_an_hour_seals_the_last_of_the_one_before() -> (
    None
):
    outbox = BooksOutbox("run", "gpu")
    outbox.seal(0.0)
    outbox._sealed_s = 0.0
    outbox.add([request(1)], totals(10, 1), START_US + HOUR_US - 2)
    outbox.add([], totals(12, 3), START_US + HOUR_US - 1)
    outbox.add([request(2)], totals(30, 4), START_US + HOUR_US)
    outbox.seal(0.1)
    (step,) = outbox.sealed
    assert (hour_of(step.time_us), step.totals) == (490_000, totals(12, 3))
    assert [each.id for each in step.requests] == ["e1"]


def test_a_clock_that_is_set_back_stands_still_and_loses_nothing() -> None:
    outbox, ledger = BooksOutbox("run", "gpu"), Ledger()
    outbox.add([request(1)], totals(10), START_US + HOUR_US)
    outbox.add([request(2)], totals(20), START_US)
    outbox.seal(0.0, is_last=True)
    hand_over(outbox, ledger)
    assert ledger.requests == ["e1", "e2"]
    assert [hour_of(each.time_us) for each in ledger.taken] == [490_001]


def test_while_the_ledger_is_away_the_memory_grows_with_the_requests_only() -> None:
    outbox, ledger = BooksOutbox("run", "gpu"), Ledger()
    for number in range(1200):  # ten minutes of polls
        outbox.add([request(10 * number + each) for each in range(10)], totals(number), START_US)
        outbox.seal(number / 2)
    assert len(outbox.sealed) == MOST_SEALED
    assert outbox.waiting == 12_000
    assert len(pickle.dumps(outbox)) < 1_500_000
    polls = 0
    while not outbox.is_empty:
        hand_over(outbox, ledger)
        outbox.seal(600.0 + polls / 2)
        polls += 1
    assert polls < 60
    assert outbox.waiting == 0
    assert sorted(ledger.requests) == sorted(f"e{number}" for number in range(12_000))
    assert max(len(each.requests) for each in ledger.taken) <= CHUNK


def test_requests_beyond_the_bound_get_no_receipt_and_their_energy_is_unclaimed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox_module, "MOST_WAITING", 3)
    outbox, ledger = BooksOutbox("run", "gpu"), Ledger()
    with caplog.at_level(logging.ERROR):
        outbox.add([request(number, 100) for number in range(5)], totals(500), START_US)
        outbox.add([request(5, 100)], totals(600), START_US + 1)
    assert (outbox.waiting, outbox.lost, outbox.lost_uj) == (3, 3, 300)
    assert len(caplog.records) == 1
    outbox.seal(0.0, is_last=True)
    hand_over(outbox, ledger)
    assert ledger.requests == ["e0", "e1", "e2"]
    last = ledger.taken[-1]
    assert last.totals.unclaimed_uj + 3 * 100 == sum(last.totals.meters.values())


def test_the_last_step_has_the_rest_and_says_so() -> None:
    outbox = BooksOutbox("run", "gpu")
    outbox.add([request(number) for number in range(CHUNK + 1)], totals(10**6), START_US)
    outbox.add([], totals(10**6), START_US + HOUR_US)
    outbox.seal(0.0, is_last=True)
    found = [(len(each.requests), each.is_last) for each in outbox.sealed]
    assert found == [(CHUNK, False), (1, False), (0, True)]


steps = st.lists(
    st.tuples(
        st.integers(0, 3),  # requests
        st.sampled_from((1, 700, HOUR_US // 3, HOUR_US, -HOUR_US)),  # the clock goes on by, us
        st.sampled_from(("answers", "is away", "takes it, and no answer comes")),
        st.booleans(),  # whether the driver dies
    ),
    max_size=25,
)


@settings(deadline=None)
@given(steps)
def test_each_request_is_taken_once_and_each_hour_ends_with_its_last_totals(
    happened: list[tuple[int, int, str, bool]],
) -> None:
    outbox, ledger, known = BooksOutbox("run", "gpu"), Ledger(), b""
    now_us, shown_us, meter_uj, ids = START_US, 0, 0, 0
    last: dict[int, BookedTotals] = {}
    for number, (requests, later_us, answer, dies) in enumerate(happened):
        if answer != "is away":  # what is handed over was sealed at the poll before
            for booking in list(outbox.sealed):
                taken = ledger.take(booking)
                if answer == "answers":
                    outbox.acknowledge(taken)
        if dies and known:
            outbox = pickle.loads(known)
            continue  # nodes and gateways still have what came with this poll
        now_us += later_us
        shown_us = max(shown_us, now_us)
        new = [request(ids + each) for each in range(requests)]
        ids, meter_uj = ids + requests, meter_uj + 7 * requests + 3
        outbox.add(new, totals(meter_uj, 3 * (number + 1)), now_us)
        last[hour_of(shown_us)] = totals(meter_uj, 3 * (number + 1))
        outbox.seal(float(number))
        known = pickle.dumps(outbox)
    outbox.add([], totals(meter_uj), now_us)
    last[hour_of(max(shown_us, now_us))] = totals(meter_uj)
    outbox.seal(1e6, is_last=True)
    hand_over(outbox, ledger)
    assert outbox.is_empty
    assert ledger.requests == [f"e{number}" for number in range(ids)]
    ends = {hour_of(booking.time_us): booking.totals for booking in ledger.taken}
    assert ends == last
    assert [each.is_last for each in ledger.taken] == [False] * (len(ledger.taken) - 1) + [True]


def test_totals_of_a_step_do_not_change_after_it_was_sealed() -> None:
    outbox = BooksOutbox("run", "gpu")
    outbox.add([request(1)], totals(10), START_US)
    outbox.seal(0.0)
    sealed = replace(outbox.sealed[0])
    outbox.add([request(2)], totals(20), START_US + 1)
    outbox.seal(5.0)
    assert outbox.sealed[0] == sealed
