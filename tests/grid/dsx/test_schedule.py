from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.dsx import FEED

from steppe.grid.dsx.envelope import MessageError
from steppe.grid.dsx.load_target import LoadTarget
from steppe.grid.dsx.schedule import FeedSchedule
from steppe.grid.dsx.site_limits import site_events, site_limits
from steppe.grid.events.event import limit_w

TARGETS = st.builds(
    lambda limit_w, start_s, span_s: LoadTarget(limit_w, start_s, start_s + span_s),
    st.none() | st.floats(0, 200_000),
    st.floats(0, 100),
    st.floats(1, 100) | st.just(math.inf),
)


def schedule_of(*targets: LoadTarget, now_s: float = 0.0) -> FeedSchedule:
    schedule = FeedSchedule(FEED)
    for number, each in enumerate(targets):
        schedule = schedule.with_target(each, f"c{number}", now_s)
    return schedule


def limits_at(schedule: FeedSchedule, *times_s: float) -> list[float]:
    return [schedule.limit(each).watts for each in times_s]


def test_a_target_holds_in_its_interval_and_the_default_outside() -> None:
    schedule = schedule_of(LoadTarget(50_000, 10, 20))
    assert limits_at(schedule, 9.9, 10, 19.9, 20) == [1e5, 5e4, 5e4, 1e5]


def test_a_target_without_times_holds_from_now_until_it_is_replaced() -> None:
    schedule = schedule_of(LoadTarget(50_000), now_s=100)
    assert limits_at(schedule, 99, 100, 1e9) == [1e5, 5e4, 5e4]
    assert limits_at(schedule.with_target(LoadTarget(None), "c", 200), 200) == [1e5]


def test_the_latest_target_wins_and_the_one_before_comes_back_after_it() -> None:
    schedule = schedule_of(LoadTarget(50_000), LoadTarget(80_000, 10, 20))
    assert limits_at(schedule, 5, 10, 20) == [5e4, 8e4, 5e4]


def test_a_target_that_is_covered_is_kept_no_longer() -> None:
    schedule = schedule_of(LoadTarget(50_000, 10, 20), LoadTarget(60_000, 5, 20))
    assert [each.correlation_id for each in schedule.held] == ["c1"]


def test_a_target_above_what_the_feed_carries_is_cut() -> None:
    assert limits_at(schedule_of(LoadTarget(500_000)), 0) == [FEED.maximum_w]


def test_a_target_that_has_ended_is_refused() -> None:
    with pytest.raises(MessageError, match="asked for an end ahead, found one 5 s ago"):
        schedule_of(LoadTarget(1.0, 0, 10), now_s=15)


def test_too_many_targets_are_refused() -> None:
    many = [LoadTarget(1.0, each, each + 1.0) for each in range(256)]
    with pytest.raises(MessageError, match="256 at once at most"):
        schedule_of(*many, LoadTarget(1.0, 1000, 1001))


def test_a_lost_link_lifts_no_limit_and_then_the_default_holds() -> None:
    low = schedule_of(LoadTarget(50_000)).unconfirmed(300)
    high = schedule_of(LoadTarget(110_000)).unconfirmed(300)
    assert limits_at(low, 0, 299, 300) == [5e4, 5e4, 1e5]
    assert limits_at(high, 0, 299, 300) == [1e5, 1e5, 1e5]


def test_a_second_loss_makes_no_target_hold_longer() -> None:
    schedule = schedule_of(LoadTarget(50_000)).unconfirmed(300).unconfirmed(900)
    assert limits_at(schedule, 299, 300) == [5e4, 1e5]


@settings(max_examples=60, deadline=None)
@given(targets=st.lists(TARGETS, max_size=5), at_s=st.floats(0, 300))
def test_the_limit_is_that_of_the_last_target_of_the_time(
    targets: list[LoadTarget], at_s: float
) -> None:
    schedule = schedule_of(*targets)
    wanted_w = FEED.default_w
    for each in targets:
        if (each.starts_s or 0) <= at_s < each.ends_s:
            wanted_w = FEED.default_w if each.limit_w is None else each.limit_w
    assert schedule.limit(at_s).watts == min(wanted_w, FEED.maximum_w)
    lost = schedule.unconfirmed(150).limit(at_s).watts
    assert lost == (min(wanted_w, FEED.default_w) if at_s < 150 else FEED.default_w)


@settings(max_examples=40, deadline=None)
@given(targets=st.lists(TARGETS, max_size=4), at_s=st.floats(0, 249))
def test_the_events_of_the_site_say_what_its_schedule_says(
    targets: list[LoadTarget], at_s: float
) -> None:
    schedules = {"a": schedule_of(*targets), "b": FeedSchedule(FEED)}
    events = site_events(schedules, 0.0, 250.0)
    assert len({each.id for each in events}) == len(events)
    found = [limit_w(each, at_s, 1e6) for each in events]
    held = [each for each in found if each is not None]
    now_w = sum(each.limit(at_s).watts for each in schedules.values())
    has_target = any(each.limit(at_s).held for each in schedules.values())
    assert held == ([now_w] if has_target else [])
    limits = site_limits(schedules, 0.0, 250.0)
    assert [watts for from_s, watts in limits if from_s <= at_s][-1] == now_w


def test_an_event_keeps_its_id_while_time_goes_on() -> None:
    schedules = {"a": schedule_of(LoadTarget(50_000, 0), LoadTarget(80_000, 10, 20))}
    ids = [[each.id for each in site_events(schedules, at_s, 100.0)] for at_s in (0, 5, 15, 25)]
    assert ids[0] == ["c0@0.000", "c1@10.000", "c0@20.000"]
    assert ids == [ids[0], ids[0], ids[0][1:], ids[0][2:]]
