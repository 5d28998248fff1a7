from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.fleet.node.clock_limit_monitor import (
    DISTRUST_S,
    GRACE_S,
    LONGEST_DISTRUST_S,
    ClockLimitMonitor,
)

CLOCKS = (600, 900, 1200, 1500)


def test_a_clock_that_nobody_limits_obeys() -> None:
    clock = ClockLimitMonitor()
    clock.look(None, 100.0)
    assert clock.keeps_limit
    assert not clock.is_overdue(100.0)


def test_a_limit_has_its_time_to_take_hold() -> None:
    clock = ClockLimitMonitor()
    clock.request(900, 0.0)
    clock.look(None, 0.0)
    clock.look(None, GRACE_S)
    assert clock.keeps_limit
    clock.look(None, GRACE_S + 0.1)
    assert not clock.keeps_limit
    clock.look(900, DISTRUST_S + GRACE_S)
    assert not clock.keeps_limit
    clock.look(900, DISTRUST_S + GRACE_S + 0.1)
    assert clock.keeps_limit


def test_a_lower_limit_that_does_not_hold_in_time_is_disobeyed() -> None:
    clock = ClockLimitMonitor()
    clock.request(1500, 0.0)
    clock.look(1500, 1.0)
    clock.request(900, 5.0)
    for now_s in (6.0, 7.0, 7.9):
        clock.look(1500, now_s)
        assert clock.keeps_limit
    clock.look(1500, 9.0)
    assert not clock.keeps_limit
    assert clock.is_overdue(9.0)


def test_a_higher_limit_that_does_not_come_is_overdue_and_yet_obeyed() -> None:
    clock = ClockLimitMonitor()
    clock.request(900, 0.0)
    clock.look(900, 1.0)
    clock.request(1500, 5.0)
    clock.look(900, 10.0)
    assert clock.keeps_limit
    assert clock.is_overdue(10.0)


def test_a_limit_that_nobody_vouches_for_any_more_is_disobeyed() -> None:
    clock = ClockLimitMonitor()
    clock.request(900, 0.0)
    clock.look(900, 1.0)
    clock.look(None, 60.0)
    clock.look(None, 60.0 + GRACE_S)
    assert clock.keeps_limit
    clock.look(None, 60.5 + GRACE_S)
    assert not clock.keeps_limit
    assert clock.is_overdue(60.5 + GRACE_S)


def test_a_limit_that_falls_all_the_time_is_followed_one_step_late() -> None:
    clock = ClockLimitMonitor()
    clock.request(2000, -10.0)
    clock.look(2000, -9.0)
    for tick in range(60):
        clock.look(2000 - 10 * tick, 0.5 * tick)
        assert clock.keeps_limit
        clock.request(2000 - 10 * (tick + 1), 0.5 * tick)


def look_for(clock: ClockLimitMonitor, confirmed_mhz: int, begin_s: float, end_s: float) -> float:
    """Look every second; return when the GPU was first seen to obey, s."""
    at_s = begin_s
    while at_s < end_s:
        clock.look(confirmed_mhz, at_s)
        if clock.keeps_limit:
            return at_s
        at_s += 1.0
    return at_s


def test_a_gpu_that_obeys_only_while_it_rests_is_believed_ever_less() -> None:
    clock, now_s, waits_s = ClockLimitMonitor(), 0.0, []
    clock.request(210, now_s)
    for _ in range(10):
        clock.look(210, now_s + GRACE_S)
        clock.request(900, now_s + GRACE_S)  # it wakes, and its clock is free
        for tick in range(5):
            clock.look(1980, now_s + GRACE_S + tick)
        clock.request(210, now_s + GRACE_S + 4.0)
        begun_s, now_s = now_s, look_for(clock, 210, now_s + 3 * GRACE_S, now_s + 1e5)
        waits_s.append(now_s - begun_s)
    assert waits_s[0] == pytest.approx(DISTRUST_S, abs=3 * GRACE_S)
    assert waits_s[1] == pytest.approx(2 * DISTRUST_S, abs=3 * GRACE_S)
    assert waits_s[-1] == pytest.approx(LONGEST_DISTRUST_S, abs=3 * GRACE_S)


def test_a_gpu_about_which_nobody_can_tell_obeys_again_as_soon_as_somebody_can() -> None:
    clock = ClockLimitMonitor()
    clock.request(900, 0.0)
    clock.look(900, 5.0)
    for now_s, obeys in ((10.0, True), (10.0 + GRACE_S, True), (10.1 + GRACE_S, False)):
        clock.note_unreachable(now_s)
        assert clock.keeps_limit == obeys
    clock.look(None, 20.0)
    assert not clock.keeps_limit
    clock.look(900, 20.5)
    assert clock.keeps_limit


def test_without_a_wish_nobody_has_to_tell() -> None:
    clock = ClockLimitMonitor()
    clock.note_unreachable(0.0)
    clock.note_unreachable(100.0)
    assert clock.keeps_limit


def test_a_gpu_that_obeyed_for_long_begins_with_the_shortest_distrust() -> None:
    clock = ClockLimitMonitor()
    clock.request(900, 0.0)
    clock.look(900, 5.0)
    for fault_s in (1000.0, 2000.0):
        clock.look(1500, fault_s)
        assert not clock.keeps_limit
        clock.look(900, fault_s + DISTRUST_S)
        assert clock.keeps_limit


@given(st.lists(st.tuples(st.sampled_from(CLOCKS), st.floats(0.1, 2.0)), min_size=1, max_size=20))
def test_a_limit_that_stays_above_every_wish_of_late_is_never_called_obeyed(
    wishes: list[tuple[int, float]],
) -> None:
    clock, now_s = ClockLimitMonitor(), 0.0
    clock.request(2000, now_s)
    clock.look(2000, now_s)
    for clock_mhz, wait_s in wishes:
        clock.request(clock_mhz, now_s)
        now_s += wait_s
        clock.look(2000, now_s)
        assert clock.keeps_limit == (now_s < GRACE_S)
