from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from steppe.control.state import ReplicaState
from steppe.sim.engine.replica import SimulatedReplica
from steppe.sim.events import EventQueue
from steppe.sim.replica_handle import SimulatedHandle


class FakeReplica:
    """Notes when it takes which clock."""

    clock_mhz = 1980
    batch = SimpleNamespace(limit=8)
    is_ready = True

    def __init__(self, queue: EventQueue) -> None:
        self.queue, self.taken = queue, list[tuple[float, int]]()

    def limit_batch(self, limit: int, *, holds: bool) -> None:
        """Take any batch limit."""

    def limit_tokens(self, tokens_per_step: int) -> None:
        """Nothing of a clock depends on it."""

    def limit_clock(self, clock_mhz: int) -> None:
        """Note a clock, MHz."""
        self.taken.append((round(self.queue.now_s, 6), clock_mhz))


def clocks_taken(latency_s: float, limits: dict[float, int]) -> list[tuple[float, int]]:
    """Return when a replica takes which clock, given when which limit is set."""
    queue = EventQueue()
    replica = FakeReplica(queue)
    handle = SimulatedHandle("replica-1", cast(SimulatedReplica, replica), queue, latency_s)
    for at_s, clock_mhz in limits.items():
        queue.at(at_s, lambda _, mhz: handle.set_limits(mhz, 8), clock_mhz)
    queue.run_until(20.0)
    return replica.taken


@pytest.mark.parametrize("latency_s", [0.05, 0.95, 1.5, 3.0])
def test_a_clock_follows_its_limit_by_the_latency_whatever_is_set_meanwhile(
    latency_s: float,
) -> None:
    limits = {float(second): 1980 - 15 * second for second in range(1, 6)}
    expected = [(round(at_s + latency_s, 6), clock_mhz) for at_s, clock_mhz in limits.items()]
    assert clocks_taken(latency_s, limits) == expected


def test_a_clock_changes_once_a_second_to_the_latest_limit() -> None:
    found = clocks_taken(0.05, {1.0: 1500, 1.1: 1400, 1.8: 1300, 2.0: 1200, 2.1: 1100})
    assert found == [(1.05, 1500), (2.05, 1200), (3.05, 1100)]


@pytest.mark.parametrize("state", [ReplicaState.AWAKE, ReplicaState.DRAINING])
def test_time_in_a_state_counts_from_the_end_of_waking(
    state: ReplicaState,
) -> None:
    queue = EventQueue()
    replica = FakeReplica(queue)
    handle = SimulatedHandle("replica-1", cast(SimulatedReplica, replica), queue, 0.05)
    handle.move(ReplicaState.ASLEEP)
    handle.move(state)
    replica.is_ready = False
    queue.run_until(7.0)
    waking = handle.observe(3, 1.0)
    replica.is_ready = True
    queue.run_until(9.0)
    ready = handle.observe(3, 1.0)
    assert (waking.is_waking, ready.is_waking) == (True, False)
    assert waking.since_s == ready.since_s == 7.0
    assert ready.woke_to_drain is (state == ReplicaState.DRAINING)


def test_a_replica_that_drains_after_serving_is_not_finishing() -> None:
    queue = EventQueue()
    handle = SimulatedHandle("replica-1", cast(SimulatedReplica, FakeReplica(queue)), queue, 0.05)
    handle.move(ReplicaState.ASLEEP)
    handle.move(ReplicaState.DRAINING)
    assert handle.observe(3, 1.0).woke_to_drain
    handle.move(ReplicaState.AWAKE)
    handle.move(ReplicaState.DRAINING)
    assert not handle.observe(3, 1.0).woke_to_drain
