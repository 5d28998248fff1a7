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


def test_a_gpu_without_a_requested_limit_keeps_it() -> None:
    monitor = ClockLimitMonitor()
    monitor.confirm(None, 100.0)
    assert monitor.keeps_limit
    assert not monitor.is_overdue(100.0)


def test_a_limit_that_is_not_confirmed_in_time_starts_distrust() -> None:
    monitor = ClockLimitMonitor()
    monitor.request(900, 0.0)
    monitor.confirm(None, 0.0)
    monitor.confirm(None, GRACE_S)
    assert monitor.keeps_limit
    monitor.confirm(None, GRACE_S + 0.1)
    assert not monitor.keeps_limit
    monitor.confirm(900, DISTRUST_S + GRACE_S)
    assert not monitor.keeps_limit
    monitor.confirm(900, DISTRUST_S + GRACE_S + 0.1)
    assert monitor.keeps_limit


def test_a_lower_limit_must_hold_within_the_grace_time() -> None:
    monitor = ClockLimitMonitor()
    monitor.request(1500, 0.0)
    monitor.confirm(1500, 1.0)
    monitor.request(900, 5.0)
    for now_s in (6.0, 7.0, 7.9):
        monitor.confirm(1500, now_s)
        assert monitor.keeps_limit
    monitor.confirm(1500, 9.0)
    assert not monitor.keeps_limit
    assert monitor.is_overdue(9.0)


def test_a_higher_limit_that_does_not_come_is_overdue_but_kept() -> None:
    monitor = ClockLimitMonitor()
    monitor.request(900, 0.0)
    monitor.confirm(900, 1.0)
    monitor.request(1500, 5.0)
    monitor.confirm(900, 10.0)
    assert monitor.keeps_limit
    assert monitor.is_overdue(10.0)


def test_a_limit_that_is_no_longer_confirmed_stops_counting_after_the_grace_time() -> None:
    monitor = ClockLimitMonitor()
    monitor.request(900, 0.0)
    monitor.confirm(900, 1.0)
    monitor.confirm(None, 60.0)
    monitor.confirm(None, 60.0 + GRACE_S)
    assert monitor.keeps_limit
    monitor.confirm(None, 60.5 + GRACE_S)
    assert not monitor.keeps_limit
    assert monitor.is_overdue(60.5 + GRACE_S)


def test_a_limit_that_falls_every_tick_may_be_kept_one_change_late() -> None:
    monitor = ClockLimitMonitor()
    monitor.request(2000, -10.0)
    monitor.confirm(2000, -9.0)
    for tick in range(60):
        monitor.confirm(2000 - 10 * tick, 0.5 * tick)
        assert monitor.keeps_limit
        monitor.request(2000 - 10 * (tick + 1), 0.5 * tick)


def time_of_trust(
    monitor: ClockLimitMonitor, confirmed_mhz: int, begin_s: float, end_s: float
) -> float:
    """Confirm every second; return when the GPU was first trusted, s."""
    at_s = begin_s
    while at_s < end_s:
        monitor.confirm(confirmed_mhz, at_s)
        if monitor.keeps_limit:
            return at_s
        at_s += 1.0
    return at_s


def test_distrust_doubles_for_a_gpu_that_keeps_its_limit_only_while_idle() -> None:
    monitor, now_s, waits_s = ClockLimitMonitor(), 0.0, []
    monitor.request(210, now_s)
    for _ in range(10):
        monitor.confirm(210, now_s + GRACE_S)
        monitor.request(900, now_s + GRACE_S)  # it wakes, and its clock exceeds the limit
        for tick in range(5):
            monitor.confirm(1980, now_s + GRACE_S + tick)
        monitor.request(210, now_s + GRACE_S + 4.0)
        begun_s, now_s = now_s, time_of_trust(monitor, 210, now_s + 3 * GRACE_S, now_s + 1e5)
        waits_s.append(now_s - begun_s)
    assert waits_s[0] == pytest.approx(DISTRUST_S, abs=3 * GRACE_S)
    assert waits_s[1] == pytest.approx(2 * DISTRUST_S, abs=3 * GRACE_S)
    assert waits_s[-1] == pytest.approx(LONGEST_DISTRUST_S, abs=3 * GRACE_S)


def test_an_unreachable_gpu_is_trusted_again_with_the_first_confirmation() -> None:
    monitor = ClockLimitMonitor()
    monitor.request(900, 0.0)
    monitor.confirm(900, 5.0)
    for now_s, keeps_limit in ((10.0, True), (10.0 + GRACE_S, True), (10.1 + GRACE_S, False)):
        monitor.unreachable(now_s)
        assert monitor.keeps_limit == keeps_limit
    monitor.confirm(None, 20.0)
    assert not monitor.keeps_limit
    monitor.confirm(900, 20.5)
    assert monitor.keeps_limit


def test_an_unreachable_gpu_without_a_requested_limit_keeps_it() -> None:
    monitor = ClockLimitMonitor()
    monitor.unreachable(0.0)
    monitor.unreachable(100.0)
    assert monitor.keeps_limit


def test_distrust_starts_short_again_after_a_long_time_without_violation() -> None:
    monitor = ClockLimitMonitor()
    monitor.request(900, 0.0)
    monitor.confirm(900, 5.0)
    for fault_s in (1000.0, 2000.0):
        monitor.confirm(1500, fault_s)
        assert not monitor.keeps_limit
        monitor.confirm(900, fault_s + DISTRUST_S)
        assert monitor.keeps_limit


@given(st.lists(st.tuples(st.sampled_from(CLOCKS), st.floats(0.1, 2.0)), min_size=1, max_size=20))
def test_a_clock_above_every_recent_request_never_keeps_the_limit(
    requests: list[tuple[int, float]],
) -> None:
    monitor, now_s = ClockLimitMonitor(), 0.0
    monitor.request(2000, now_s)
    monitor.confirm(2000, now_s)
    for clock_mhz, wait_s in requests:
        monitor.request(clock_mhz, now_s)
        now_s += wait_s
        monitor.confirm(2000, now_s)
        assert monitor.keeps_limit == (now_s < GRACE_S)
