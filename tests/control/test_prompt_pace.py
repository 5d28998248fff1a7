"""A replica gets no more prompts than it computes in time; the others wait at the gateway."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.control.placing import Occupancy, ReplicaSlots
from steppe.control.prompt_pace import LEAST_PROMPTS, MEMORY_S, PromptPace

WAIT_S = 0.5


def pace_of(prompts_per_s: float, seconds: float) -> PromptPace:
    """Return the pace of a replica that always has prompts and begins this many in a second."""
    pace, now_s = PromptPace(), 0.0
    pace.take(now_s)
    while now_s < seconds:
        now_s += 1 / prompts_per_s
        pace.take(now_s)
        pace.begin(now_s, 1)
    return pace


@pytest.mark.parametrize("prompts_per_s", [20.0, 100.0])
def test_as_many_prompts_as_begin_in_the_wait_are_allowed(prompts_per_s: float) -> None:
    pace = pace_of(prompts_per_s, 20.0)
    assert pace.most(WAIT_S) == pytest.approx(prompts_per_s * WAIT_S, rel=0.05)


def test_a_slow_replica_still_gets_a_few() -> None:
    assert pace_of(0.5, 60.0).most(WAIT_S) == LEAST_PROMPTS


def test_no_limit_applies_before_the_pace_is_known_nor_without_a_longest_wait() -> None:
    pace = PromptPace()
    pace.take(0.0)
    assert math.isinf(pace.most(WAIT_S))
    assert math.isinf(pace_of(10.0, 10.0).most(math.inf))


def test_time_without_prompts_does_not_count() -> None:
    pace = pace_of(50.0, 20.0)
    pace.begin(20.02, 1)
    before = pace.most(WAIT_S)
    pace.take(1000.0)
    assert pace.most(WAIT_S) == before


def test_a_replica_that_becomes_slower_gets_fewer_within_its_memory() -> None:
    pace, now_s = pace_of(100.0, 20.0), 20.01
    for _ in range(round(10 * 2 * MEMORY_S)):
        now_s += 0.1
        pace.take(now_s)
        pace.begin(now_s, 1)
    assert pace.most(1.0) == pytest.approx(10 + 90 * math.exp(-2), rel=0.1)


def slots_at_pace(prompts_per_s: float, limit: int = 1000) -> tuple[ReplicaSlots, float]:
    """Return the slots of one replica whose pace is known, and the time."""
    slots = ReplicaSlots([limit], prompt_wait_s=WAIT_S)
    pace = pace_of(prompts_per_s, 20.0)
    pace.begin(20.0, pace.prompts)
    slots.occupy(0, Occupancy(0, 0, pace))
    return slots, 20.0


def fill(slots: ReplicaSlots, now_s: float, most: int = 500, *, streams: bool = True) -> int:
    """Take slots until the replica is full, and return how many."""
    for number in range(most):
        replica = slots.acquire()
        if replica is None:
            return number
        if streams:
            slots.expect_first_token(replica, now_s)
    return most


def test_a_replica_gets_no_more_prompts_than_its_pace_allows() -> None:
    slots, now_s = slots_at_pace(40.0)
    assert fill(slots, now_s) == pytest.approx(40 * WAIT_S, abs=2)


def test_a_prompt_that_begins_makes_room_for_the_next() -> None:
    slots, now_s = slots_at_pace(40.0)
    taken = fill(slots, now_s)
    slots.begin(0, now_s + 0.02, 3)
    assert fill(slots, now_s + 0.02) in (3, 4)
    assert slots.outstanding[0] in (taken + 3, taken + 4)


def test_requests_that_do_not_stream_are_not_prompts() -> None:
    slots, now_s = slots_at_pace(40.0, limit=100)
    assert fill(slots, now_s, streams=False) == 100
    slots.begin(0, now_s + 60.0, 100, streams=False)
    for _ in range(100):
        slots.release(0)
    assert fill(slots, now_s + 60.0) == pytest.approx(40 * WAIT_S, abs=2)


def test_the_others_get_what_one_replica_does_not() -> None:
    slots = ReplicaSlots([100, 100], prompt_wait_s=WAIT_S)
    slow, fast = pace_of(10.0, 20.0), pace_of(80.0, 20.0)
    for index, pace in enumerate((slow, fast)):
        pace.begin(20.0, pace.prompts)
        slots.occupy(index, Occupancy(0, 0, pace))
    fill(slots, 20.0)
    assert slots.outstanding[0] == pytest.approx(5, abs=1)
    assert slots.outstanding[1] == pytest.approx(40, abs=2)


def test_a_lost_replica_begins_without_a_pace() -> None:
    slots, now_s = slots_at_pace(40.0)
    fill(slots, now_s)
    slots.clear(0)
    assert slots.acquire() is None
    slots.limit(0, 100)
    assert fill(slots, now_s) == 100


def test_a_first_token_in_no_time_says_nothing_about_the_pace() -> None:
    pace = PromptPace()
    pace.take(3.0)
    pace.begin(3.0, 1)
    assert math.isinf(pace.most(WAIT_S))


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0, 2), st.booleans()), max_size=60),
    st.floats(0.01, 10.0),
)
def test_a_few_prompts_are_always_allowed_and_prompts_never_negative(
    steps: list[tuple[float, bool]], wait_s: float
) -> None:
    pace, now_s = PromptPace(), 0.0
    for passed_s, begins in steps:
        now_s += passed_s
        if begins and pace.prompts:
            pace.begin(now_s, 1)
        else:
            pace.take(now_s)
        assert pace.prompts >= 0
        assert pace.most(wait_s) >= LEAST_PROMPTS
