from __future__ import annotations

from collections import Counter

from steppe.control.placing import ReplicaSlots


def places_of(slots: ReplicaSlots, requests: int) -> Counter[int | None]:
    return Counter(slots.acquire() for _ in range(requests))


def test_the_share_of_the_load_follows_the_speed() -> None:
    slots = ReplicaSlots([100, 100])
    slots.set_speeds([300.0, 100.0])
    assert places_of(slots, 80) == {0: 60, 1: 20}


def test_limits_stand_for_speeds_while_one_is_unknown() -> None:
    slots = ReplicaSlots([60, 20, 0])
    slots.set_speeds([100.0, 0.0, 50.0])
    assert places_of(slots, 40) == {0: 30, 1: 10}


def test_a_replica_without_a_limit_needs_no_speed() -> None:
    slots = ReplicaSlots([100, 100, 0])
    slots.set_speeds([300.0, 100.0, 0.0])
    assert places_of(slots, 80) == {0: 60, 1: 20}


def test_no_replica_is_within_the_bound_of_an_empty_fleet() -> None:
    assert ReplicaSlots([0, 0]).within(2.0) == []


def test_deferrable_requests_fill_places_and_take_none_from_others() -> None:
    slots = ReplicaSlots([4, 4])
    assert [slots.acquire(later=True) is None for _ in range(9)] == [False] * 8 + [True]
    assert slots.has_room
    assert places_of(slots, 9) == {0: 4, 1: 4, None: 1}
    assert not slots.has_room
    assert (slots.outstanding, slots.later) == ([8, 8], [4, 4])


def test_a_place_that_a_deferrable_request_returns_is_counted() -> None:
    slots = ReplicaSlots([2])
    slots.acquire(later=True)
    slots.acquire()
    assert slots.acquire(later=True) is None
    slots.begin(0, 1.0, streams=False, later=True)
    slots.release(0, later=True)
    assert (slots.outstanding, slots.later) == ([1], [0])
    assert slots.acquire(later=True) == 0
