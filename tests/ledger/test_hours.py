"""The sums of runs and hours: they only rise, and what is open is carried."""

from __future__ import annotations

from typing import Any

import pytest
from tests.ledger.service.running import booking

from steppe.errors import UsageError
from steppe.ledger.booking import BookedTotals
from steppe.ledger.hours import HourSums, RunBooks

EMPTY = RunBooks("run-1", "hohhot", "gpu")


def test_what_nothing_claims_is_open_until_the_run_ends() -> None:
    first = EMPTY.after(booking(1, metered_uj=1_000, idle_uj=300, unclaimed_uj=20), 400, "a")
    assert first.open_uj == 280
    last = first.after(
        booking(2, metered_uj=1_500, idle_uj=300, unclaimed_uj=20, is_last=True), 100, "b"
    )
    assert (last.open_uj, last.given_up_uj) == (0, 680)


def test_what_was_given_up_cannot_be_claimed_later() -> None:
    ended = EMPTY.after(booking(1, metered_uj=1_000), 0, "a").ended()
    with pytest.raises(UsageError, match="booking 2 of run run-1: asked for at most the 1200 uJ"):
        ended.after(booking(2, metered_uj=1_200), 201, "b")
    assert ended.after(booking(2, metered_uj=1_200), 200, "b").open_uj == 0


@pytest.mark.parametrize(
    ("totals", "name"),
    [
        ({"metered_uj": 999}, "replica-0"),
        ({"metered_uj": 1_000, "idle_uj": 9}, "idle_uj"),
        ({"metered_uj": 1_000, "idle_uj": 10, "supply_uj": {"wind": 4}}, r"supply_uj\.wind"),
    ],
)
def test_totals_that_fall_are_refused(totals: dict[str, Any], name: str) -> None:
    first = EMPTY.after(booking(1, metered_uj=1_000, idle_uj=10, supply_uj={"wind": 5}), 0, "a")
    with pytest.raises(UsageError, match=rf"run run-1: {name}: asked for at least"):
        first.after(booking(2, **totals), 0, "b")


def test_a_meter_that_is_not_named_stays_where_it_was() -> None:
    first = EMPTY.after(booking(1, metered_uj=1_000), 0, "a")
    other = booking(2)
    other = type(other)("run-1", 2, 0, "gpu", (), BookedTotals({"replica-1": 50}))
    assert first.after(other, 0, "b").totals.meters == {"replica-0": 1_000, "replica-1": 50}


def test_an_hour_has_the_differences_of_its_bookings() -> None:
    first = EMPTY.after(
        booking(1, metered_uj=1_000, idle_uj=100, supply_uj={"wind": 900}, charged_uj=5), 200, "a"
    )
    sums = HourSums().plus(EMPTY, first, 50)
    assert sums.meters == {"run-1/replica-0": (0, 1_000)}
    assert (sums.idle_uj, sums.waste_uj, sums.carried_out_uj) == (100, 50, 700)
    supply_uj = {"wind": 950, "sun": 7}
    step = booking(2, metered_uj=1_600, idle_uj=150, supply_uj=supply_uj, charged_uj=5)
    second = first.after(step, 300, "b")
    later = HourSums(carried_in_uj=700, carried_out_uj=700).plus(first, second, 0)
    assert later.meters == {"run-1/replica-0": (1_000, 1_600)}
    assert (later.meter_uj, later.idle_uj, later.carried_out_uj) == (600, 50, 950)
    assert later.supply_uj == {"wind": 50, "sun": 7}
