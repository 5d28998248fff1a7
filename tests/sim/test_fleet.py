from __future__ import annotations

from typing import Any

import pytest

from steppe.control.demand import Demand, Traffic
from steppe.control.reconcile import Sleep, Start, Wake
from steppe.control.state import ReplicaState
from steppe.power.budget import PowerBudget, SiteTerms
from steppe.power.supply import Steady, TraceClock
from steppe.sim.batch import EngineLimits
from steppe.sim.events import EventQueue
from steppe.sim.fleet import FleetSettings, SimulatedFleet
from steppe.sim.gate import Patience
from steppe.sim.kind import ReplicaKind, Transitions
from steppe.sim.request import Arrival, Request

START_S = 10.0


class World:
    """One replica that serves up to eight requests, in virtual time."""

    def __init__(self, model: Any) -> None:
        kind = ReplicaKind(model, EngineLimits(), 600, 1200, Transitions(START_S, 0.0, 0.0, 50.0))
        budget = PowerBudget(
            supplies=(Steady(1000.0),),
            clock=TraceClock(0.0, 1.0),
            terms=SiteTerms(0.0, 0.0, 5.0, 1.0, 0.0),
        )
        self.queue, self.ended = EventQueue(), list[Request]()
        settings = FleetSettings(1, kind, Patience(100, 100.0, 2.0), 0.0)
        self.fleet = SimulatedFleet(settings, budget, self.queue, self.ended.append)
        self.fleet.apply([Wake("replica-1", 1200, 8)])

    def state(self) -> ReplicaState:
        return self.fleet.observe(self.queue.now_s).replicas[0].state


@pytest.fixture
def world(curved_model: Any) -> World:
    return World(curved_model)


def test_a_replica_that_starts_does_not_fail_again(world: World) -> None:
    world.fleet.fail(0)
    assert world.state() == ReplicaState.GONE
    world.fleet.apply([Start("replica-1")])
    world.queue.run_until(START_S / 2)
    world.fleet.fail(0)
    assert world.state() == ReplicaState.STARTING
    world.queue.run_until(START_S)
    assert world.state() == ReplicaState.AWAKE


def test_a_request_that_fails_with_its_replica_counts_as_one_answer_to_the_demand(
    world: World,
) -> None:
    asked = Demand()
    asked.take(Traffic(0.0, 0, 0, 0))
    world.fleet.observe(0.0)
    for number in range(1, 6):
        world.fleet.arrive(number, Arrival(0.0, 20, 1000))
    world.queue.run_until(5.0)
    world.fleet.fail(0)
    world.fleet.read_meters()
    assert [request.finish for request in world.ended] == ["failed"] * 5
    tokens = sum(request.output_tokens for request in world.ended)
    expected = asked.take(Traffic(5.0, 5, 5, tokens))
    assert world.fleet.observe(5.0).demand_tps == pytest.approx(expected.tps)


def test_requests_inside_a_replica_that_sleeps_are_recorded_as_waiting(world: World) -> None:
    for number in range(1, 12):
        world.fleet.arrive(number, Arrival(0.0, 20, 1000))
    world.queue.run_until(1.0)
    served = world.fleet.observe(1.0)
    world.fleet.apply([Sleep("replica-1")])
    world.fleet.observe(1.0)
    waiting = world.fleet.record(1.0, 1000.0, ()).waiting
    assert served.waiting < waiting == 11
