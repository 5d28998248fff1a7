from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from steppe.device.pacing import CHANGE_PERIOD_S, ClockPace


def test_a_first_wish_is_due_at_once() -> None:
    assert ClockPace().request(900).due_s == -math.inf


def test_a_wish_soon_after_a_change_waits_for_its_second() -> None:
    pace = ClockPace().request(900).applied(10.0).request(600)
    assert pace.due_s == 11.0


def test_the_latest_wish_replaces_the_one_that_waited() -> None:
    pace = ClockPace().request(900).applied(10.0).request(600).request(1200)
    assert pace.applied(11.0).in_force_mhz == 1200


def test_wishing_for_what_is_in_force_takes_back_what_waited() -> None:
    pace = ClockPace().request(900).applied(10.0).request(600).request(900)
    assert pace.due_s == math.inf


def test_after_an_undo_the_same_clock_may_be_wished_for_again() -> None:
    pace = ClockPace().request(900).applied(10.0).undone(10.5)
    assert pace.in_force_mhz is None
    assert pace.request(900).due_s == 11.5


@given(st.lists(st.tuples(st.floats(0, 0.7), st.sampled_from([600, 900, 1200])), min_size=1))
def test_the_clock_never_changes_twice_within_a_second(wishes: list[tuple[float, int]]) -> None:
    pace, now_s, changes_s = ClockPace(), 0.0, []
    for later_s, clock_mhz in wishes:
        now_s += later_s
        pace = pace.request(clock_mhz)
        if pace.due_s <= now_s:
            pace = pace.applied(now_s)
            changes_s.append(now_s)
    gaps_s = [after - before for before, after in pairwise(changes_s)]
    assert all(gap_s >= CHANGE_PERIOD_S - 1e-9 for gap_s in gaps_s)
    assert pace.in_force_mhz is not None


@given(st.lists(st.sampled_from([600, 900, 1200]), min_size=1))
def test_after_a_quiet_second_the_last_wish_is_in_force(wishes: list[int]) -> None:
    pace = ClockPace()
    for clock_mhz in wishes:
        pace = pace.request(clock_mhz)
        if pace.due_s <= 5.0:
            pace = pace.applied(5.0)
    if pace.due_s <= 6.0:
        pace = pace.applied(6.0)
    assert pace.in_force_mhz == wishes[-1]
