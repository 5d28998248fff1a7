"""One fleet of two replicas without a model: actors that die or hang, and a signal that steps.

The tests share the fleet and leave it as they found it; the last one ends it and audits the books
of all that came before.
"""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise

import httpx
import openai
import pytest
from tests.fixtures.serving import (
    FULL_W,
    EnergyWitness,
    Load,
    PowerSignal,
    Serving,
    end_and_audit,
    wait_until,
)

SYNTHETIC = True

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


def wait_for_budget(fleet: Serving, watts: float) -> None:
    fleet.wait_for_tick(lambda tick: tick.budget_w == watts, f"a budget of {watts} W")


def test_a_signal_that_steps_is_followed_between_two_regular_ticks(
    fleet: Serving, power_signal: PowerSignal
) -> None:
    for part, watts in enumerate(3 * (0.7 * FULL_W, FULL_W)):
        time.sleep(part / 6)  # the record grows once a second, like ticks: the steps must not
        power_signal.set(watts)
        wait_for_budget(fleet, watts)
    pairs = list(pairwise(fleet.ticks()))[-30:]
    steps_s = [before.t_s for before, after in pairs if before.budget_w != after.budget_w]
    assert sum(0.1 < at_s % 1.0 < 0.9 for at_s in steps_s[-6:]) >= 2


def test_a_replica_that_hangs_is_restarted_and_costs_only_what_it_was_streaming(
    fleet: Serving,
) -> None:
    with Load(fleet, 12) as load:
        fleet.wait_for_states("awake", "awake")
        load.wait_for(12)
        before = fleet.pids("ray::Replica")
        os.kill(min(before), signal.SIGSTOP)
        stopped_epoch_s = time.time()
        fleet.wait_for_another("ray::Replica", before)
        fleet.wait_for_states("awake", "awake")
        load.wait_for_replicas("replica-1", "replica-2")
    assert all(a.tokens > 0 for a in load.failed), [a.error for a in load.failed]
    assert all(a.sent_epoch_s < stopped_epoch_s for a in load.failed), load.failed


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
def test_a_controller_that_dies_or_hangs_is_restarted_and_keeps_the_limits(
    fleet: Serving, witness: EnergyWitness, fate: signal.Signals
) -> None:
    with Load(fleet, 12) as load:
        fleet.wait_for_states("awake", "awake")
        load.wait_for(12)
        wait_until(lambda: witness.locked() == [0, 1], "the limits are set")
        (pid,) = fleet.pids("ray::Controller")
        replicas = fleet.pids("ray::Replica")
        os.kill(pid, fate)
        last = fleet.last_tick()
        while not fleet.pids("ray::Controller") - {pid}:
            assert witness.locked() == [0, 1]
            time.sleep(0.05)
        load.wait_for(12)
        fleet.wait_for_states("awake", "awake")
        after = [tick for tick in fleet.ticks() if tick.t_s > last.t_s]
    assert not load.failed
    assert fleet.pids("ray::Replica") == replicas
    assert {r.state for tick in after for r in tick.replicas} == {"awake"}
    assert all(r.clock_mhz > 0 and r.batch_limit > 0 for r in after[0].replicas)


def test_a_node_actor_that_is_killed_leaves_no_limit_behind_and_meters_on(
    fleet: Serving, witness: EnergyWitness
) -> None:
    with Load(fleet, 12) as load:
        fleet.wait_for_states("awake", "awake")
        load.wait_for(12)
        before = fleet.pids("ray::Node")
        os.kill(min(before), signal.SIGKILL)
        killed_s = fleet.last_tick().t_s
        wait_until(lambda: witness.locked() == [], "the agent undoes the limits")
        fleet.wait_for_another("ray::Node", before)
        wait_until(lambda: witness.locked() == [0, 1], "the limits are set again")
        load.wait_for(24)
        fleet.next_tick()
    assert not load.failed
    after = [tick for tick in fleet.ticks() if tick.t_s > killed_s + 1]
    assert all(tick.energy_j > 0 for tick in after)
    last = fleet.wait_for_requests({a.id for a in load.completed[-8:]})
    assert all((request.energy_j or 0) > 0 for request in last)


def test_a_gateway_that_is_killed_comes_back_at_the_same_address(fleet: Serving) -> None:
    with Load(fleet, 4) as load:
        load.wait_for(4)
        before = fleet.pids("ray::GatewayActor")
        os.kill(min(before), signal.SIGKILL)
        fleet.wait_for_another("ray::GatewayActor", before)
        load.wait_for(8)
    assert all(
        isinstance(a.error, openai.APIConnectionError | ConnectionError) or a.tokens
        for a in load.failed
    )
    assert httpx.get(fleet.url + "/health").json()["status"] == "ok"


def test_ctrl_c_ends_the_run_with_books_that_balance_and_leaves_nothing_behind(
    fleet: Serving, witness: EnergyWitness
) -> None:
    end_and_audit(fleet, witness)
