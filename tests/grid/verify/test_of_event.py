"""What an event of the grid asks, in the terms of its verification."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.grid.verify.made_report import FROZEN, START_S, TIMES, made_report

from steppe.errors import UsageError
from steppe.grid.events.event import GridEvent, Share, Watts
from steppe.grid.verify.like_days import freeze
from steppe.grid.verify.of_event import asked_of, committed_of, targets_of, times_of
from steppe.grid.verify.tracking import following_of

EVENT = GridEvent(
    id="e-17",
    program="peak",
    priority=0,
    issued_s=START_S - 900.5,
    starts_s=START_S - 300.0,
    ramp_down_s=100.0,
    hold_until_s=START_S + 7200.0,
    ramp_up_s=200.0,
    target=Share(0.75),
    kind="relative",
    source="OpenADR",
)


def test_whole_intervals_of_the_hold_are_settled() -> None:
    times = times_of(EVENT, 900)
    assert (times.start_s, times.end_s) == (START_S, START_S + 7200)
    assert times.foreseeable_s == START_S - 901
    assert times.start_s - times.before_s == START_S - 4500
    assert times.end_s + times.after_s == START_S + 7200 + 8100


def test_a_forecast_of_the_event_makes_it_foreseeable_earlier() -> None:
    assert times_of(EVENT, 900, foreseen_s=START_S - 86_400.0).foreseeable_s == START_S - 86_400
    late = replace(EVENT, issued_s=START_S + 5.0)
    assert times_of(late, 900).foreseeable_s == START_S - 300


def test_a_hold_shorter_than_an_interval_and_a_price_are_refused() -> None:
    short = replace(EVENT, hold_until_s=START_S + 899.0)
    price = replace(EVENT, kind="price", target=None)
    for event in (short, price):
        with pytest.raises(UsageError, match="event e-17: asked for a limit that is held"):
            times_of(event, 900)


def test_what_is_owed_is_the_baseline_less_the_target() -> None:
    assert committed_of(EVENT, [1000, 2000]) == (250, 500)
    assert committed_of(replace(EVENT, target=Watts(1200.0)), [1000, 2000]) == (0, 800)


def test_the_targets_of_each_second_are_the_limits_of_the_event() -> None:
    targets = targets_of(EVENT, START_S - 301, START_S + 7401, 1, 1000.0)
    assert targets[0] is None
    assert targets[1] == 1000
    assert targets[51] == 875
    assert set(targets[101:7501]) == {750}
    assert targets[-2] == 999
    assert targets[-1] is None


def test_an_interval_that_the_event_only_touches_has_no_target() -> None:
    targets = targets_of(EVENT, START_S - 900, START_S, 450, 1000.0)
    assert targets == (None, None)
    assert targets_of(EVENT, START_S - 300, START_S, 50, 1000.0)[:3] == (1000, 875, 750)


def test_an_event_of_the_grid_gets_a_report() -> None:
    times = times_of(EVENT, 900)
    frozen = freeze(FROZEN.method, times, FROZEN.load, FROZEN.calendar)
    committed = committed_of(EVENT, frozen.watts(times.start_s, times.end_s))
    report = made_report(
        asked=asked_of(EVENT, "hohhot-1"), times=times, baseline=frozen, committed=committed
    )
    assert report.asked.kind == "relative"
    assert [row.committed_w for row in report.rows] == list(committed)
    assert report.times.foreseeable_s == TIMES.start_s - 901


def test_a_draw_along_the_limits_of_an_event_breaches_none() -> None:
    targets = targets_of(EVENT, START_S - 300, START_S, 1, 1000.0)
    found = following_of(1, targets, targets)
    assert found is not None
    assert (found.overshoot_j, found.settled_s) == (0, 0)
