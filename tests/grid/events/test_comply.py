"""The check before the start."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.grid.events.comply import CannotComply, Complies, Flexibility, Reach, can_comply
from steppe.grid.events.event import GridEvent, Share, Watts

EVENT = GridEvent(
    id="e1",
    program="p",
    priority=0,
    issued_s=0.0,
    starts_s=40.0,
    ramp_down_s=0.0,
    hold_until_s=220.0,
    ramp_up_s=60.0,
    target=Watts(700.0),
    kind="limit",
    source="dsx",
)
CLOCKS = Reach(down_w=200.0, within_s=1.0, longest_s=math.inf)
SLEEP = Reach(down_w=800.0, within_s=30.0, longest_s=3600.0)
SITE = Flexibility((CLOCKS, SLEEP), fall_w_per_s=100.0)


def test_the_site_complies_with_enough_notice_and_says_how_much_it_needs() -> None:
    assert can_comply(EVENT, 1000.0, SITE, 0.0) == Complies(31.0)  # 30 s, then 100 W at 100 W/s


def test_too_short_a_notice_is_named() -> None:
    found = can_comply(EVENT, 1000.0, SITE, 30.0)
    assert found == CannotComply(
        "event e1: asked for 300 W less within 10 s, found a notice of 10 s where 31 s are needed",
        100.0,
    )


def test_a_slow_ramp_needs_less_notice() -> None:
    slow = replace(EVENT, ramp_down_s=60.0)
    # 200 W of clocks carry the first 40 s of the ramp; 30 s after now the rest is there.
    assert can_comply(slow, 1000.0, SITE, 39.0) == Complies(1.0)


def test_a_ramp_that_is_faster_than_the_site_needs_a_start_before_it() -> None:
    slow_site = Flexibility((Reach(500.0, 0.0, math.inf),), fall_w_per_s=5.0)
    ramp = replace(EVENT, ramp_down_s=30.0)
    assert can_comply(ramp, 1000.0, slow_site, 0.0) == Complies(30.0)
    found = can_comply(ramp, 1000.0, slow_site, 20.0)
    assert isinstance(found, CannotComply)
    assert "asked for 300 W less within 50 s at 10.0 W/s, found a notice of 20 s" in found.reason
    assert found.short_w == pytest.approx(50.0)


def test_a_target_out_of_reach_is_named() -> None:
    found = can_comply(replace(EVENT, target=Share(0.0)), 1000.0, SITE, 0.0)
    assert isinstance(found, CannotComply)
    assert "asked for 1000 W less for 180 s, found 800 W less for that long" in found.reason
    assert found.short_w == 200.0


def test_only_what_lasts_until_the_end_of_the_hold_counts() -> None:
    battery = Reach(down_w=1000.0, within_s=0.0, longest_s=100.0)
    found = can_comply(EVENT, 1000.0, Flexibility((battery,), math.inf), 0.0)
    assert isinstance(found, CannotComply)
    assert "found 0 W less for that long" in found.reason


def test_a_site_that_cannot_fall_says_so() -> None:
    found = can_comply(EVENT, 1000.0, Flexibility((SLEEP,), fall_w_per_s=0.0), 0.0)
    assert isinstance(found, CannotComply)
    assert found.short_w == 300.0


def test_a_price_or_a_target_above_the_baseline_needs_nothing() -> None:
    assert can_comply(replace(EVENT, kind="price", target=None), 1000.0, SITE, 0.0) == Complies(0)
    assert can_comply(replace(EVENT, target=Watts(2000.0)), 1000.0, SITE, 0.0) == Complies(0)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.floats(1, 1000), st.floats(0, 100)), min_size=1, max_size=4),
    st.floats(1, 500),
    st.floats(0, 900),
    st.floats(0, 100),
)
def test_what_the_site_needs_is_just_enough(
    reaches: list[tuple[float, float]], rate: float, target_w: float, ramp_s: float
) -> None:
    site = Flexibility(tuple(Reach(w, s, math.inf) for w, s in reaches), rate)
    ramp = replace(EVENT, starts_s=1e4, ramp_down_s=ramp_s, hold_until_s=2e4)
    ramp = replace(ramp, target=Watts(target_w))
    found = can_comply(ramp, 1000.0, site, 0.0)
    if isinstance(found, CannotComply):
        assert max(w for w, _ in reaches) < 1000.0 - target_w
        return
    assert isinstance(can_comply(ramp, 1000.0, site, 1e4 - found.needs_s - 1e-3), Complies)
    if found.needs_s > 1e-2:
        late = can_comply(ramp, 1000.0, site, 1e4 - found.needs_s + 1e-2)
        assert isinstance(late, CannotComply)
        assert 0.0 <= late.short_w <= 1000.0 - target_w


def test_a_target_that_is_the_baseline_but_for_rounding_needs_nothing() -> None:
    asked = replace(EVENT, target=Watts(1000.0 - 1e-7))
    assert can_comply(asked, 1000.0, Flexibility((), 0.0), 0.0) == Complies(0.0)
