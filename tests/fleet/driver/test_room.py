from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.config import FleetSection
from steppe.errors import ConfigError
from steppe.fleet.cluster import Machine
from steppe.fleet.driver.room import is_model, replicas_wanted, spread

sizes = st.lists(st.integers(0, 8), min_size=1, max_size=5)


def machines_of(gpus: list[int]) -> list[tuple[Machine, int]]:
    return [(Machine(f"node-{i}", "127.0.0.1", count), count) for i, count in enumerate(gpus)]


def wanted(gpus: list[int], free: list[int], **fleet: Any) -> int:
    machines = [machine for machine, _ in machines_of(gpus)]
    by_id = {machine.id: count for machine, count in zip(machines, free, strict=True)}
    return replicas_wanted(FleetSection(**fleet), machines, by_id)


@given(sizes, st.integers(1, 20), st.integers(1, 4))
def test_replicas_take_turns_over_the_machines_with_room(
    gpus: list[int], count: int, each: int
) -> None:
    places = spread([each] * count, machines_of(gpus))
    taken = [places.count(machine) for machine, _ in machines_of(gpus)]
    rooms = [free // each for free in gpus]
    assert sum(taken) == min(count, sum(rooms))
    assert all(count <= room for count, room in zip(taken, rooms, strict=True))
    not_full = (t for t, room in zip(taken, rooms, strict=True) if t < room)
    assert max(taken) <= min(not_full, default=max(taken)) + 1


@given(sizes, st.integers(1, 4))
def test_all_means_as_many_replicas_as_the_free_gpus_hold(gpus: list[int], each: int) -> None:
    room = sum(count // each for count in gpus)
    if room:
        assert wanted(gpus, gpus, gpus_per_replica=each) == room
    else:
        with pytest.raises(ConfigError, match="found room for 0"):
            wanted(gpus, gpus, gpus_per_replica=each)


def test_gpus_of_another_job_are_left_to_it() -> None:
    assert wanted([8, 8], [8, 3]) == 11
    assert wanted([8, 8], [8, 3], gpus_per_replica=2) == 5


def test_replicas_that_find_no_free_gpu_now_get_one_later() -> None:
    assert wanted([8, 8], [8, 3], replicas=16) == 16


def test_more_replicas_than_all_gpus_hold_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        wanted([8, 8], [8, 8], replicas=17)
    line = "fleet.replicas: asked for 17 with 1 GPU each, found room for 16"
    assert str(caught.value) == line


def test_a_cluster_whose_gpus_are_all_in_use_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        wanted([8], [0], replicas=2)
    assert str(caught.value).endswith("found room for 0 (8 of 8 GPUs are in use)")


@pytest.mark.parametrize(
    ("wanted", "fits"), [(None, True), ("H100", True), ("h100 80gb", True), ("A100", False)]
)
def test_a_gpu_model_is_a_part_of_the_name_in_nvml(wanted: str | None, fits: bool) -> None:
    assert is_model("NVIDIA H100 80GB HBM3", wanted) == fits
