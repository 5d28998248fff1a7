from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import ReplicaError
from steppe.fleet.cluster import Machine, share_of_cores, spread

sizes = st.lists(st.integers(0, 8), min_size=1, max_size=5)


def machines_of(gpus: list[int]) -> list[tuple[Machine, int]]:
    return [(Machine(f"node-{i}", "127.0.0.1", count), count) for i, count in enumerate(gpus)]


@settings(deadline=None)
@given(sizes, st.integers(1, 4))
def test_all_means_as_many_replicas_as_the_gpus_hold(gpus: list[int], each: int) -> None:
    room = sum(count // each for count in gpus)
    if not room:
        with pytest.raises(ReplicaError, match="found room for 0"):
            spread("all", each, machines_of(gpus))
        return
    places = spread("all", each, machines_of(gpus))
    assert len(places) == room
    for machine, count in machines_of(gpus):
        assert places.count(machine) == count // each


@settings(deadline=None)
@given(sizes, st.integers(1, 20))
def test_replicas_take_turns_over_the_machines_with_room(gpus: list[int], wanted: int) -> None:
    if wanted > sum(gpus):
        with pytest.raises(ReplicaError, match=f"asked for {wanted} with 1 GPU each"):
            spread(wanted, 1, machines_of(gpus))
        return
    places = spread(wanted, 1, machines_of(gpus))
    taken = [places.count(machine) for machine, _ in machines_of(gpus)]
    assert sum(taken) == wanted
    assert all(count <= room for count, room in zip(taken, gpus, strict=True))
    fewest = min((t for t, room in zip(taken, gpus, strict=True) if t < room), default=max(taken))
    assert max(taken) <= fewest + 1


@settings(deadline=None)
@given(st.integers(1, 64), st.integers(1, 70))
def test_engines_of_one_machine_share_its_cores(count: int, places: int) -> None:
    cores = tuple(range(100, 100 + count))
    shares = [share_of_cores(cores, place, places) for place in range(places)]
    assert all(shares)
    assert set().union(*shares) <= set(cores)
    if places <= count:
        assert len({core for share in shares for core in share}) == sum(map(len, shares))
