from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import ReplicaError, UsageError
from steppe.fleet.cluster import LOCAL, Machine, connect, leave, share_of_cores, spread
from steppe.fleet.orphan_processes import processes_of

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


def start_actor_that_hangs(said: Path) -> Any:
    """Start an actor whose process takes long to get through its exit; it says when it is there."""

    class Hanging:
        def hang_at_exit(self) -> int:
            import atexit
            import threading

            def hang() -> None:
                said.touch()
                threading.Event().wait(100)

            atexit.register(hang)
            return os.getpid()

    remote: Any = ray.remote(Hanging)
    return remote.options(num_cpus=0).remote()


def test_a_machine_that_is_no_node_of_the_cluster_is_a_mistake_of_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("no node info found for this host")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UsageError, match=r"a node of the cluster '10\.0\.0\.1:6379'.*no node info"):
        connect("10.0.0.1:6379")
    with pytest.raises(RuntimeError):
        connect(LOCAL)


@pytest.mark.cluster
@pytest.mark.timeout(120)
def test_an_actor_that_hangs_in_its_exit_does_not_outlive_our_cluster(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = tmp_path / "said"
    connect(LOCAL)
    session = ray.get_runtime_context().get_session_name()
    try:
        actor = start_actor_that_hangs(said)
        number = ray.get(actor.hang_at_exit.remote())
        del actor  # it leaves in peace, for nobody can ask it anything any more
        while not said.exists():
            time.sleep(0.05)
        (hanging,) = (p for p in processes_of(session) if p.number == number)
    finally:
        leave(LOCAL, patience_s=1.0)
    assert not hanging.is_alive
    assert processes_of(session) == frozenset()
    assert "killed what stayed of our Ray cluster after its end" in caplog.text
