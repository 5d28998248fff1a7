"""Baselines from like days."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.grid.verify.loads import FRIDAY, MONDAY, event_on, load_by

from steppe.errors import UsageError
from steppe.grid.verify.error import BaselineError, error_of
from steppe.grid.verify.like_days import (
    FIVE_IN_TEN,
    HIGH_4_OF_5,
    MIDDLE_8_OF_10,
    TEN_IN_TEN,
    Adjustment,
    LikeDays,
    freeze,
    placebo_pairs,
)
from steppe.grid.verify.load import Load
from steppe.grid.verify.stated import sha256_of
from steppe.grid.verify.times import DAY_S, HOUR_S, Calendar, EventTimes, Span

UTC = Calendar()
EVENT = event_on(FRIDAY)
FLAT = load_by(lambda day, hour: 1000, MONDAY - 60, 90)


def by_day(day: int, hour: int) -> int:
    """Return a draw that shows its day: 1000 W, and 10 W for each day after the first Monday."""
    return 1000 + 10 * (day - MONDAY)


def watts(method: LikeDays, load: Load, times: EventTimes = EVENT) -> tuple[int, ...]:
    return freeze(method, times, load, UTC).watts(times.start_s, times.end_s)


def test_a_flat_load_is_its_own_baseline() -> None:
    for method in (TEN_IN_TEN, HIGH_4_OF_5, MIDDLE_8_OF_10, FIVE_IN_TEN):
        assert watts(method, FLAT) == (1000, 1000)


def test_ten_in_ten_is_the_mean_of_the_last_ten_working_days_at_the_same_hours() -> None:
    load = load_by(lambda day, hour: by_day(day, hour) + hour, MONDAY - 60, 90)
    last_ten = [FRIDAY - n for n in (1, 2, 3, 4, 7, 8, 9, 10, 11, 14)]
    mean = sum(by_day(day, 0) for day in last_ten) / 10
    plain = replace(TEN_IN_TEN, adjustment=None)
    assert watts(plain, load) == (mean + 14, mean + 15)
    chosen = freeze(plain, EVENT, load, UTC).chosen
    assert chosen.days[0] == date(2026, 6, 25)
    assert chosen.days[-1] == date(2026, 6, 12)
    assert chosen.days_back == (1, 2, 3, 4, 7, 8, 9, 10, 11, 14)


@pytest.mark.parametrize(
    ("method", "left"),
    [
        (HIGH_4_OF_5, (1, 2, 3, 4)),
        (MIDDLE_8_OF_10, (2, 3, 4, 7, 8, 9, 10, 11)),
        (FIVE_IN_TEN, (1, 2, 3, 4, 7)),
    ],
    ids=lambda value: value.name if isinstance(value, LikeDays) else "",
)
def test_days_with_the_least_and_the_most_draw_are_left_out(
    method: LikeDays, left: tuple[int, ...]
) -> None:
    frozen = freeze(method, EVENT, load_by(by_day, MONDAY - 60, 90), UTC)
    assert frozen.chosen.days_back == left
    assert frozen.watts(EVENT.start_s, EVENT.end_s)[0] == sum(
        by_day(FRIDAY - days, 0) for days in left
    ) // len(left)


def test_weekends_holidays_days_with_events_and_days_with_gaps_are_not_like_days() -> None:
    holiday, worked = date(2026, 6, 24), date(2026, 6, 21)
    calendar = Calendar(holidays=frozenset({holiday}), worked=frozenset({worked}))
    gap = FRIDAY - 3
    load = load_by(lambda day, hour: None if (day, hour) == (gap, 17) else 1000, MONDAY - 60, 90)
    event = Span((FRIDAY - 4) * DAY_S + 3600, (FRIDAY - 4) * DAY_S + 7200)
    frozen = freeze(HIGH_4_OF_5, EVENT, load, calendar, [event])
    assert frozen.chosen.days_back == (1, 5, 7, 8)


def test_an_event_on_a_weekend_has_weekends_as_like_days() -> None:
    saturday = event_on(FRIDAY + 1)
    chosen = freeze(HIGH_4_OF_5, saturday, FLAT, UTC).chosen
    assert all(day.weekday() >= 5 for day in chosen.days)


def test_the_local_day_decides_what_is_a_weekend() -> None:
    late = event_on(FRIDAY, hour=20)
    china = Calendar(utc_offset_s=8 * HOUR_S)
    chosen = freeze(HIGH_4_OF_5, late, FLAT, china).chosen
    assert china.day_of(late.start_s) == date(2026, 6, 27)
    assert all(day.weekday() >= 5 for day in chosen.days)


@pytest.mark.parametrize(("before_w", "factor_ppm"), [(1100, 1_100_000), (900, 900_000),
                                                      (2000, 1_200_000), (0, 800_000)])  # fmt: skip
def test_the_adjustment_scales_within_a_fifth(before_w: int, factor_ppm: int) -> None:
    load = load_by(
        lambda day, hour: before_w if day == FRIDAY and hour in (10, 11, 12) else 1000,
        MONDAY - 60,
        90,
    )
    frozen = freeze(TEN_IN_TEN, EVENT, load, UTC)
    assert frozen.chosen.factor_ppm == factor_ppm
    assert frozen.watts(EVENT.start_s, EVENT.end_s) == (factor_ppm // 1000,) * 2


def test_the_hour_before_the_event_is_not_in_the_adjustment() -> None:
    load = load_by(lambda day, hour: 9 if day == FRIDAY and hour >= 13 else 1000, MONDAY - 60, 90)
    assert freeze(TEN_IN_TEN, EVENT, load, UTC).chosen.factor_ppm == 1_000_000


def test_with_an_early_notice_the_adjustment_ends_before_it() -> None:
    noticed = event_on(FRIDAY, notice_s=3 * HOUR_S)
    load = load_by(
        lambda day, hour: 1100 if day == FRIDAY and hour in (8, 9, 10) else 1000, MONDAY - 60, 90
    )
    assert freeze(TEN_IN_TEN, noticed, load, UTC).chosen.factor_ppm == 1_100_000


def test_an_hour_of_another_event_is_not_in_the_adjustment() -> None:
    load = load_by(lambda day, hour: 0 if day == FRIDAY and hour == 10 else 1000, MONDAY - 60, 90)
    ten = FRIDAY * DAY_S + 10 * HOUR_S
    frozen = freeze(TEN_IN_TEN, EVENT, load, UTC, [Span(ten, ten + HOUR_S)])
    assert frozen.chosen.factor_ppm == 1_000_000


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([TEN_IN_TEN, HIGH_4_OF_5, MIDDLE_8_OF_10, FIVE_IN_TEN]),
    st.integers(0, 6 * 3600),
    st.integers(0, 10**6),
)
def test_nothing_drawn_after_the_event_could_be_foreseen_changes_the_baseline(
    method: LikeDays, notice_s: int, later_w: int
) -> None:
    noticed = event_on(FRIDAY, notice_s=notice_s)
    whole = FLAT.part(0, noticed.foreseeable_s)
    later = (later_w,) * 12
    raised = Load(whole.start_s, HOUR_S, whole.watts + later)
    first, second = (freeze(method, noticed, load, UTC) for load in (FLAT, raised))
    assert first.entry == second.entry
    assert first.watts(noticed.start_s, noticed.end_s) == second.watts(
        noticed.start_s, noticed.end_s
    )


def test_each_input_changes_the_hash() -> None:
    frozen = freeze(TEN_IN_TEN, EVENT, FLAT, UTC)
    others = [
        freeze(HIGH_4_OF_5, EVENT, FLAT, UTC),
        freeze(TEN_IN_TEN, event_on(FRIDAY, hour=15), FLAT, UTC),
        freeze(TEN_IN_TEN, EVENT, FLAT, Calendar(holidays=frozenset({date(2026, 6, 1)}))),
        freeze(TEN_IN_TEN, EVENT, FLAT, UTC, [Span(0, HOUR_S)]),
        freeze(TEN_IN_TEN, EVENT, load_by(lambda day, hour: 1001, MONDAY - 60, 90), UTC),
    ]
    assert len({sha256_of(each) for each in (frozen, *others)}) == 6


def test_too_few_like_days_are_refused_with_their_number() -> None:
    short = load_by(lambda day, hour: 1000, FRIDAY - 5, 6)
    with pytest.raises(UsageError, match=r"10 like days in the 45 days .*, found 4"):
        watts(TEN_IN_TEN, short)


def test_a_span_beyond_the_report_is_refused() -> None:
    frozen = freeze(HIGH_4_OF_5, EVENT, FLAT, UTC)
    with pytest.raises(UsageError, match="asked for a span within"):
        frozen.watts(EVENT.start_s - 2 * HOUR_S, EVENT.end_s)


def test_an_event_between_intervals_is_refused() -> None:
    odd = EventTimes(EVENT.start_s, EVENT.start_s + 60, EVENT.end_s)
    with pytest.raises(UsageError, match="whole intervals of 3600 s"):
        freeze(TEN_IN_TEN, odd, FLAT, UTC)


@pytest.mark.parametrize("bad", [(2, 1, 1), (1, -1, 0)])
def test_a_method_that_keeps_no_day_is_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="asked for a day that is left"):
        LikeDays("x", *bad)


def test_an_event_that_ends_before_it_starts_or_lasts_two_days_is_refused() -> None:
    for start_s, end_s in ((10, 10), (0, 2 * DAY_S)):
        with pytest.raises(UsageError, match="event: asked for an event"):
            EventTimes(0, start_s, end_s)
    with pytest.raises(UsageError, match="found 5 s after"):
        EventTimes(15, 10, 20)


def test_placebo_days_of_a_flat_load_have_no_error() -> None:
    frozen = freeze(TEN_IN_TEN, EVENT, FLAT, UTC)
    assert error_of(placebo_pairs(frozen)) == BaselineError(22, 44, 0, 0)


def test_placebo_days_show_a_method_that_claims_too_much() -> None:
    load = load_by(lambda day, hour: 1000 + 200 * (day % 2), MONDAY - 80, 110)
    high = error_of(placebo_pairs(freeze(FIVE_IN_TEN, EVENT, load, UTC)))
    plain = replace(TEN_IN_TEN, adjustment=None)
    all_days = error_of(placebo_pairs(freeze(plain, EVENT, load, UTC)))
    assert high is not None
    assert all_days is not None
    assert high.bias_ppm > 70_000 > abs(all_days.bias_ppm)
    assert high.cvrmse_ppm > all_days.cvrmse_ppm > 80_000


def test_days_with_events_are_no_placebo_days() -> None:
    events = [Span((FRIDAY - n) * DAY_S, (FRIDAY - n) * DAY_S + HOUR_S) for n in (1, 2, 3)]
    frozen = freeze(TEN_IN_TEN, EVENT, FLAT, UTC, events)
    assert len(placebo_pairs(frozen)) == 19


def test_the_error_of_baselines_is_the_mean_and_the_root_of_the_mean_square() -> None:
    assert error_of([((110, 90), (100, 100)), ((130,), (100,))]) == BaselineError(
        2, 3, 100_000, 191_485
    )
    assert error_of([]) is None
    assert error_of([((1,), (0,))]) is None
    with pytest.raises(UsageError, match="found 1 and 2"):
        error_of([((1,), (1, 2))])


def test_an_adjustment_of_other_hours_and_bounds_can_be_asked_for() -> None:
    method = replace(HIGH_4_OF_5, adjustment=Adjustment(2 * HOUR_S, 0, 0, 10**7))
    load = load_by(lambda day, hour: 3000 if day == FRIDAY else 1000, MONDAY - 60, 90)
    assert watts(method, load) == (3000, 3000)
