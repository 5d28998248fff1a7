"""How a draw follows a target."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import UsageError
from steppe.grid.verify.tracking import following_of


def test_a_draw_on_its_target_has_no_error() -> None:
    found = following_of(1, [700] * 5, [700] * 5)
    assert found is not None
    assert (found.rmse_w, found.overshoot_j, found.peak_ppm, found.settled_s) == (0, 0, 0, 0)
    assert (found.warnings, found.criticals) == (0, 0)


def test_the_figures_of_a_cut_that_comes_late() -> None:
    target = [None, 700, 700, 700, 700]
    found = following_of(2, target, [1000, 1000, 800, 720, 690])
    assert found is not None
    assert found.seconds == 8
    assert found.rmse_w == 158
    assert found.nrmse_ppm == 226_440
    assert found.mean_error_ppm == 146_429
    assert found.overshoot_j == (300 + 100 + 20) * 2
    assert found.peak_w == 300
    assert found.peak_ppm == 428_572
    assert found.over_band_s == 4
    assert found.settled_s == 4
    assert (found.warnings, found.criticals) == (0, 1)


def test_breaches_are_counted_by_their_largest_excess() -> None:
    load = [121, 90, 110, 120, 90, None, 101]
    found = following_of(1, [100] * 7, load)
    assert found is not None
    assert (found.warnings, found.criticals) == (2, 1)
    assert found.unmetered_s == 1


def test_a_missing_reading_neither_ends_nor_splits_a_breach() -> None:
    found = following_of(1, [100] * 4, [110, None, 110, 90])
    assert found is not None
    assert found.warnings == 1


def test_a_draw_that_does_not_stay_in_the_band_has_not_settled() -> None:
    found = following_of(1, [100, 100, 100], [90, 90, 106])
    assert found is not None
    assert found.settled_s is None
    unknown = following_of(1, [100, 100], [100, None])
    assert unknown is not None
    assert unknown.settled_s is None


def test_a_target_of_zero_watts_is_exceeded_by_any_draw() -> None:
    found = following_of(1, [0, 0], [3, 0])
    assert found is not None
    assert (found.criticals, found.peak_w, found.nrmse_ppm, found.settled_s) == (1, 3, 0, 1)


def test_without_a_target_or_a_reading_there_are_no_figures() -> None:
    assert following_of(1, [None, 5], [5, None]) is None
    assert following_of(1, [], []) is None
    with pytest.raises(UsageError, match="found 1 and 0"):
        following_of(1, [1], [])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 2000)), min_size=1, max_size=30))
def test_a_draw_below_its_target_is_no_breach(values: list[tuple[int, int]]) -> None:
    found = following_of(1, [t for t, _ in values], [w for _, w in values])
    assert found is not None
    exceeded = any(w > t for t, w in values)
    assert exceeded == bool(found.overshoot_j) == bool(found.warnings + found.criticals)
