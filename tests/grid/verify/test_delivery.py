"""What was delivered, what it earns, and what comes back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import UsageError
from steppe.grid.verify.delivery import PPM, Delivery, Direction, delivery_of
from steppe.grid.verify.rebound import Rebound, rebound_of
from steppe.grid.verify.settlement import EnergyTerms, EventSettlement, WholeTerms, settle

LESS, MORE = Direction.LESS, Direction.MORE
KWH_W = 4000
"""In a quarter of an hour this is 1 kWh."""


def delivered(*load: int | None, owed: int = KWH_W, direction: Direction = LESS) -> Delivery:
    count = len(load)
    return delivery_of(
        direction, 0, 900, baseline=[10_000] * count, load=load, committed=[owed] * count
    )


def test_an_interval_delivers_what_its_draw_is_below_the_baseline() -> None:
    some = delivered(6000, 8000, 12_000, 0)
    assert [row.delivered_w for row in some.rows] == [4000, 2000, 0, 10_000]
    assert [row.deficiency_w for row in some.rows] == [0, 2000, 4000, 0]
    assert [row.start_s for row in some.rows] == [0, 900, 1800, 2700]
    assert some.delivered_j == 16_000 * 900
    assert some.counted_j == 10_000 * 900
    assert some.deficiency_j == 6000 * 900
    assert some.ratio_ppm == PPM
    assert some.over_ppm == 0


def test_more_is_delivered_by_a_draw_above_the_baseline() -> None:
    some = delivered(14_000, 9000, direction=MORE)
    assert [row.delivered_w for row in some.rows] == [4000, 0]
    assert some.ratio_ppm == PPM // 2


def test_an_interval_without_a_reading_delivers_nothing() -> None:
    some = delivered(None, 6000)
    assert some.rows[0].deficiency_w == KWH_W
    assert some.unmetered == 1
    assert not some.is_whole
    assert not delivered(None, owed=0).is_whole


def test_delivery_above_the_promise_is_shown() -> None:
    assert delivered(5000).over_ppm == 250_000
    assert delivered(5000).ratio_ppm == PPM
    assert delivered(5000, owed=0).ratio_ppm is None
    assert delivered(5000, owed=0).over_ppm is None


def test_values_that_do_not_match_are_refused() -> None:
    with pytest.raises(UsageError, match="found 1, 2 and 1"):
        delivery_of(LESS, 0, 1, baseline=[1], load=[1, 2], committed=[1])
    with pytest.raises(UsageError, match="found -1 W"):
        delivery_of(LESS, 0, 1, baseline=[1], load=[1], committed=[-1])


def test_energy_is_paid_and_what_is_missing_is_owed() -> None:
    terms = EnergyTerms("EUR", 1_000, 3_000)
    assert settle(delivered(6000, 8000), terms) == EventSettlement("EUR", 1500, 1500, 0)
    assert settle(delivered(0, 0), terms) == EventSettlement("EUR", 2000, 0, 2000)


def test_nothing_is_paid_below_the_least_ratio() -> None:
    terms = EnergyTerms("EUR", 1_000, 3_000, least_ratio_ppm=750_001)
    assert settle(delivered(6000, 8000), terms) == EventSettlement("EUR", 0, 1500, -1500)
    assert settle(delivered(6000, 7999), terms).price_nano > 0


def test_a_firm_level_is_paid_only_if_every_interval_keeps_it() -> None:
    terms = WholeTerms("CNY", 500, 70)
    assert settle(delivered(6000, 5000), terms) == EventSettlement("CNY", 500, 0, 500)
    assert settle(delivered(6001, 0), terms) == EventSettlement("CNY", 0, 70, -70)
    assert settle(delivered(6000, None), terms) == EventSettlement("CNY", 0, 70, -70)


def test_terms_that_pay_for_failure_are_refused() -> None:
    with pytest.raises(UsageError, match="penalty of 0 or more, found -1"):
        EnergyTerms("EUR", 1, -1)
    with pytest.raises(UsageError, match="penalty of 0 or more, found -1"):
        WholeTerms("EUR", 1, -1)
    with pytest.raises(UsageError, match="found 1000001"):
        EnergyTerms("EUR", 1, 1, 1_000_001)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(-50, 5000), st.none() | st.integers(-50, 5000), st.integers(0, 5000)),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(Direction),
)
def test_what_is_counted_and_what_is_missing_is_all_that_was_promised(
    values: list[tuple[int, int | None, int]], direction: Direction
) -> None:
    baseline, load, committed = zip(*values, strict=True)
    some = delivery_of(direction, 0, 7, baseline=baseline, load=load, committed=committed)
    assert some.counted_j + some.deficiency_j == some.committed_j
    assert some.counted_j <= some.delivered_j
    if some.ratio_ppm is not None:
        assert 0 <= some.ratio_ppm <= PPM
    if some.is_whole and some.committed_j:
        assert some.ratio_ppm == PPM


def test_a_rebound_is_the_draw_above_the_baseline_after_the_event() -> None:
    rebound = rebound_of(LESS, 60, [1000, 1000, 500, 0], [900, 1250, None, 10])
    assert rebound == Rebound(240, 250, 250_000, 260 * 60, 1)


def test_after_an_event_that_asked_for_more_a_lower_draw_is_the_rebound() -> None:
    assert rebound_of(MORE, 60, [1000, 1000], [900, 1250]) == Rebound(120, 100, 100_000, 6000, 0)
