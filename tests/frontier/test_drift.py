from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.frontier.drift import MOST, DrawCorrection


def test_nothing_seen_changes_nothing() -> None:
    assert DrawCorrection().corrected_w(1200, 300.0) == 300.0


def test_a_steady_error_is_learnt() -> None:
    correction = DrawCorrection()
    for _ in range(30):
        correction = correction.observed(1200, 300.0, 330.0)
    assert correction.corrected_w(1200, 300.0) == pytest.approx(330.0, rel=0.001)


def test_one_window_moves_it_by_a_fifth() -> None:
    assert DrawCorrection().observed(1200, 100.0, 120.0).factor(1200) == pytest.approx(1.04)


def test_between_two_clocks_the_factor_is_interpolated() -> None:
    correction = DrawCorrection({1000: 1.0, 1400: 1.2})
    assert correction.factor(1200) == pytest.approx(1.1)
    assert correction.factor(500) == 1.0
    assert correction.factor(1900) == 1.2


def test_a_reading_without_watts_teaches_nothing() -> None:
    correction = DrawCorrection({1000: 1.1})
    assert correction.observed(1000, 0.0, 300.0) is correction
    assert correction.observed(1000, 300.0, 0.0) is correction


@given(st.lists(st.tuples(st.integers(200, 2000), st.floats(1, 1e4), st.floats(1, 1e4))))
def test_the_factor_stays_within_bounds(windows: list[tuple[int, float, float]]) -> None:
    correction = DrawCorrection()
    for clock, modelled_w, measured_w in windows:
        correction = correction.observed(clock, modelled_w, measured_w)
    assert all(1 / MOST <= factor <= MOST for factor in correction.factors.values())
