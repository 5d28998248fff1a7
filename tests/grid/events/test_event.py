"""The shape of an event."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.grid.events.event import GridEvent, Kind, Share, Target, Watts, cancelled, limit_w
from steppe.grid.events.together import lowest

BASELINE_W = 1000.0


def event(
    name: str = "e1",
    *,
    program: str = "p",
    priority: int = 1,
    target: Target | None = Watts(700.0),  # noqa: B008 - a frozen value
    kind: Kind = "limit",
    starts_s: float = 100.0,
) -> GridEvent:
    """An event with a ramp down of 40 s, a hold of 180 s and a ramp up of 60 s."""
    return GridEvent(
        id=name,
        program=program,
        priority=priority,
        issued_s=0.0,
        starts_s=starts_s,
        ramp_down_s=40.0,
        hold_until_s=starts_s + 220.0,
        ramp_up_s=60.0,
        target=target,
        kind=kind,
        source="openadr",
    )


@pytest.mark.parametrize(
    ("now_s", "watts"),
    [
        (99.9, None),
        (100.0, 1000.0),
        (120.0, 850.0),
        (140.0, 700.0),
        (319.9, 700.0),
        (350.0, 850.0),
        (380.0, None),
    ],
)
def test_the_limit_ramps_down_holds_and_ramps_up(now_s: float, watts: float | None) -> None:
    assert limit_w(event(), now_s, BASELINE_W) == watts


def test_a_share_is_one_of_the_baseline() -> None:
    assert limit_w(event(target=Share(0.25)), 200.0, 800.0) == 200.0


def test_a_price_sets_no_limit() -> None:
    assert limit_w(event(target=None, kind="price"), 200.0, BASELINE_W) is None


def test_the_baseline_stays_the_limit_while_the_event_settles() -> None:
    settling = replace(event(), settle_s=30.0)
    assert limit_w(settling, 400.0, BASELINE_W) == BASELINE_W
    assert limit_w(settling, 410.0, BASELINE_W) is None


TIMES = st.floats(0, 600)
SPANS = st.floats(0, 200)


@settings(deadline=None, max_examples=100)
@given(st.tuples(SPANS, SPANS, SPANS, SPANS), st.floats(0, 2000), TIMES)
def test_after_the_hold_the_limit_is_never_above_the_baseline(
    spans_s: tuple[float, float, float, float], target_w: float, now_s: float
) -> None:
    down_s, hold_s, up_s, settle_s = spans_s
    shaped = replace(
        event(target=Watts(target_w)),
        ramp_down_s=down_s,
        hold_until_s=100.0 + down_s + hold_s,
        ramp_up_s=up_s,
        settle_s=settle_s,
    )
    watts = limit_w(shaped, now_s, BASELINE_W)
    if watts is None:
        assert now_s < shaped.starts_s or now_s >= shaped.ends_s
        return
    assert min(target_w, BASELINE_W) - 1e-6 <= watts <= max(target_w, BASELINE_W) + 1e-6
    if now_s >= shaped.hold_until_s:
        assert watts <= BASELINE_W


@settings(deadline=None, max_examples=100)
@given(st.floats(100, 319.9), st.floats(0, 60))
def test_a_cancelled_event_ramps_up_from_where_it_was_at_the_same_rate(
    now_s: float, later_s: float
) -> None:
    before_w = limit_w(event(), now_s, BASELINE_W)
    left = cancelled(event(), now_s, BASELINE_W)
    assert left is not None
    assert before_w is not None
    after_w = limit_w(left, now_s + later_s, BASELINE_W)
    rate = 300.0 / 60.0
    if after_w is None:
        assert before_w + rate * later_s >= BASELINE_W - 1e-3
    else:
        assert after_w == pytest.approx(before_w + rate * later_s, abs=1e-3)


def test_nothing_is_left_of_an_event_that_is_cancelled_before_its_start() -> None:
    assert cancelled(event(), 50.0, BASELINE_W) is None


def test_an_event_that_is_cancelled_in_its_ramp_up_goes_on_with_it() -> None:
    assert cancelled(event(), 350.0, BASELINE_W) == event()


def test_the_lowest_limit_of_different_programmes_applies() -> None:
    found = lowest(
        [
            (event("a", program="p", priority=0, target=Watts(800.0)), BASELINE_W),
            (event("b", program="q", priority=9, target=Watts(500.0)), BASELINE_W),
        ],
        200.0,
    )
    assert found is not None
    assert (found.watts, found.event.id) == (500.0, "b")


def test_an_event_of_a_higher_priority_replaces_others_of_its_programme_while_it_holds() -> None:
    first = event("first", priority=0, target=Watts(800.0), starts_s=150.0)
    second = event("second", priority=5, target=Watts(500.0))
    both = [(first, BASELINE_W), (second, BASELINE_W)]
    during_its_ramp = lowest(both, 160.0)
    assert during_its_ramp is not None
    assert during_its_ramp.event.id == "second"
    during_its_hold = lowest(both, 200.0)
    assert during_its_hold is not None
    assert (during_its_hold.watts, during_its_hold.event.id) == (800.0, "first")


def test_an_emergency_is_replaced_by_no_other_event() -> None:
    found = lowest(
        [
            (event("first", priority=0, target=Watts(800.0)), BASELINE_W),
            (event("now", priority=5, target=Watts(100.0), kind="emergency"), BASELINE_W),
        ],
        200.0,
    )
    assert found is not None
    assert found.event.id == "now"


def test_of_equal_limits_the_one_of_the_highest_priority_is_named() -> None:
    found = lowest(
        [(event("a", program="p", priority=3), 1000.0), (event("b", program="q"), 1000.0)], 200.0
    )
    assert found is not None
    assert found.event.id == "b"
    assert lowest([], 200.0) is None
