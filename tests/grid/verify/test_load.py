"""The load of a site by interval."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import UsageError
from steppe.grid.verify.load import Load, Reading, load_of


def test_readings_of_any_length_become_the_mean_of_each_interval() -> None:
    readings = [Reading(100.0, 110.0, 1000.0), Reading(110.0, 125.0, 400.0)]
    readings += [Reading(125.0, 130.0, 100.0)]
    assert load_of(readings, 10) == Load(100, 10, (1000, 400, 250))


def test_an_interval_that_is_not_covered_has_no_reading() -> None:
    load = load_of([Reading(0.0, 10.0, 5.0), Reading(25.0, 40.0, 7.0)], 10)
    assert load.watts == (5, None, None, 7)


def test_a_span_outside_of_the_load_has_no_readings() -> None:
    load = Load(100, 10, (1, 2, 3))
    assert load.between(80, 150) == (None, None, 1, 2, 3, None, None)
    assert load.between(80, 90) == (None,)
    assert load.between(140, 160) == (None, None)
    assert load.between(110, 120) == (2,)


def test_a_part_holds_whole_intervals_only() -> None:
    load = Load(100, 10, (1, 2, 3))
    assert load.part(101, 129) == Load(110, 10, (2,))
    assert load.part(0, 1000) == load
    assert load.part(500, 600).watts == ()


def test_a_gap_changes_the_hash() -> None:
    assert Load(0, 1, (1, None)).sha256 != Load(0, 1, (1, 0)).sha256


@pytest.mark.parametrize("bad", [Reading(0, 0, 1), Reading(2, 1, 1), Reading(0, 1, math.nan)])
def test_a_reading_without_a_length_or_a_number_is_refused(bad: Reading) -> None:
    with pytest.raises(UsageError, match="load: asked for a reading"):
        load_of([bad], 1)


def test_no_readings_are_refused() -> None:
    with pytest.raises(UsageError, match="found none"):
        load_of([], 1)


def test_a_time_between_intervals_is_refused() -> None:
    with pytest.raises(UsageError, match="multiple of the interval of 10 s, found 105"):
        Load(100, 10, (1,)).between(100, 105)
    with pytest.raises(UsageError, match="found 3"):
        Load(3, 10, (1,))
    with pytest.raises(UsageError, match="found 0 s"):
        Load(0, 0, (1,))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=8),
    st.integers(-12, 12),
    st.integers(0, 12),
)
def test_a_span_has_one_value_for_each_interval(
    watts: list[int | None], first: int, count: int
) -> None:
    load = Load(0, 10, tuple(watts))
    expected = [watts[n] if 0 <= n < len(watts) else None for n in range(first, first + count)]
    assert list(load.between(first * 10, (first + count) * 10)) == expected
