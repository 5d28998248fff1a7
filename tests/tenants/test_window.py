from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.tenants.window import SLOTS, SlidingWindow

STEPS = st.lists(st.tuples(st.floats(0, 30), st.floats(0, 5)), min_size=1, max_size=60)


@given(STEPS)
def test_the_sum_covers_the_window_and_at_most_one_slot_more(
    steps: list[tuple[float, float]],
) -> None:
    window, now_s, past = SlidingWindow(60.0), 0.0, list[tuple[float, float]]()
    for wait_s, amount in steps:
        now_s += wait_s
        window.add(now_s, amount)
        past.append((now_s, amount))
        within = sum(a for at_s, a in past if at_s > now_s - 60.0)
        longer = sum(a for at_s, a in past if at_s >= now_s - 60.0 * (1 + 2 / SLOTS))
        assert within - 1e-9 <= window.total(now_s) <= longer + 1e-9


@given(STEPS, st.floats(0.1, 50))
def test_after_the_time_that_it_says_there_is_room(
    steps: list[tuple[float, float]], limit: float
) -> None:
    window, now_s = SlidingWindow(60.0), 0.0
    for wait_s, amount in steps:
        now_s += wait_s
        room_in_s = window.room_in_s(now_s, limit, amount)
        if amount > limit:
            assert room_in_s == math.inf
            continue
        assert 0 <= room_in_s <= 61.0
        if room_in_s > 0:
            assert window.total(now_s) + amount > limit
        now_s += room_in_s + 1e-6
        assert window.total(now_s) + amount <= limit * (1 + 1e-6)
        window.add(now_s, amount)


def test_what_was_not_used_is_given_back_while_it_is_in_the_window() -> None:
    window = SlidingWindow(60.0)
    window.add(0.0, 10.0)
    window.give_back(0.0, 30.0, 4.0)
    assert window.total(30.0) == 6.0
    window.give_back(0.0, 70.0, 6.0)
    assert window.total(70.0) == 0.0


def test_it_is_empty_again_after_its_reset_time() -> None:
    window = SlidingWindow(60.0)
    assert window.reset_s(5.0) == 0.0
    window.add(5.0, 1.0)
    reset_s = window.reset_s(5.0)
    assert 60.0 <= reset_s <= 62.0
    assert window.total(5.0 + reset_s) == 0.0


def test_it_keeps_a_bounded_number_of_slots() -> None:
    window = SlidingWindow(60.0)
    for step in range(10_000):
        window.add(step / 10, 1.0)
    assert window.total(999.9) == pytest.approx(600, abs=15)
    assert len(window._slots) <= SLOTS + 1


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 9)), max_size=30))
def test_a_window_that_takes_the_parts_of_another_one_is_never_too_small(
    adds: list[tuple[float, int]],
) -> None:
    one, other, both = (SlidingWindow(60.0) for _ in range(3))
    for index, (at_s, amount) in enumerate(sorted(adds)):
        (one, other)[index % 2].add(at_s, amount)
        both.add(at_s, amount)
    one.merge(100.0, other.parts(100.0))
    for now_s in (100.0, 120.0, 150.0):
        assert one.total(now_s) >= both.total(now_s) - 1e-6
    assert one.total(100.0) == pytest.approx(both.total(100.0))
    assert one.total(170.0) == 0.0
