from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.grid.openadr.times import (
    BadTimeError,
    duration_of,
    is_now,
    text_of,
    text_of_duration,
    time_of,
)


@pytest.mark.parametrize(
    ("text", "span_s"),
    [("PT15M", 900), ("PT1H30M", 5400), ("P1D", 86400), ("P2W", 1209600), ("PT0.5S", 0.5)],
)
def test_a_duration_has_the_length_that_it_says(text: str, span_s: float) -> None:
    assert duration_of(text).after(1000.0) == 1000.0 + span_s


def test_a_month_after_the_end_of_january_is_the_end_of_february() -> None:
    january = time_of("2026-01-31T00:00:00Z")
    assert duration_of("P1M").after(january) == time_of("2026-02-28T00:00:00Z")


@pytest.mark.parametrize("text", ["P9999Y", "P99999Y", "P8000Y"])
def test_a_duration_beyond_the_calendar_never_ends(text: str) -> None:
    assert duration_of(text).after(1.8e9) == math.inf


@pytest.mark.parametrize("text", ["", "P", "PT", "-PT1H", "PT1", "1H", "P1H", "PT1H ", "PTnanS"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BadTimeError, match="is no duration"):
        duration_of(text)


def test_a_month_after_the_end_of_the_calendar_is_refused() -> None:
    with pytest.raises(BadTimeError, match="beyond the calendar"):
        duration_of("P1M").after(1e12)


@pytest.mark.parametrize("text", ["0001-01-01", "0001-01-01T00:00:00", "0001-01-01T00:00:00Z"])
def test_the_first_day_of_the_calendar_stands_for_now(text: str) -> None:
    assert is_now(text)


def test_a_time_without_an_offset_is_refused() -> None:
    with pytest.raises(BadTimeError, match="offset from UTC"):
        time_of("2026-12-01T12:00:00")


@pytest.mark.parametrize("text", ["noon", "2026-13-01T00:00:00Z", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadTimeError, match="is no time"):
        time_of(text)


def test_an_offset_is_taken_into_account() -> None:
    assert time_of("2026-12-01T20:00:00+08:00") == time_of("2026-12-01T12:00:00Z")


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 4_000_000_000), st.integers(1, 10_000_000))
def test_what_is_written_is_read_back(time_s: int, span_s: int) -> None:
    assert time_of(text_of(time_s)) == time_s
    assert duration_of(text_of_duration(span_s)).after(0.0) == span_s
