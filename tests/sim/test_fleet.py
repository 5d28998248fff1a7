from __future__ import annotations

import pytest
from tests.fixtures.curved_model import CurvedModel

from steppe.control.demand import DemandEstimator, Traffic
from steppe.control.plan import Plan
from steppe.control.reconcile import DrainRule, Sleep, Start, Wake, reconcile
from steppe.control.state import ReplicaState
from steppe.load.arrivals import Arrival
from steppe.power.budget import PowerBudget
from steppe.power.site_terms import SiteTerms
from steppe.power.supply import Steady, TraceClock
from steppe.roofline.point import OperatingPoint
from steppe.sim.engine.batch import BatchLimits
from steppe.sim.engine.kind import ReplicaKind, Transitions
from steppe.sim.events import EventQueue
from steppe.sim.fleet import SimulatedFleet
from steppe.sim.fleet_settings import FleetSettings
from steppe.sim.gateway import GatewayLimits
from steppe.sim.request import Request

START_S = 10.0


class World:
    """Replicas that serve up to eight requests each, in virtual time."""

    def __init__(self, replicas: int = 1, wake_s: float = 0.0) -> None:
        times = Transitions(START_S, wake_s, 0.0, 50.0)
        kind = ReplicaKind(CurvedModel(), BatchLimits(), 600, 1200, times)
        budget = PowerBudget(
            supplies=(Steady(1000.0),),
            clock=TraceClock(0.0, 1.0),
            terms=SiteTerms(0.0, 0.0, 5.0, 1.0, 0.0),
        )
        self.queue, self.ended = EventQueue(), list[Request]()
        settings = FleetSettings(replicas, kind, GatewayLimits(100, 100.0, 2.0), 0.0)
        self.fleet = SimulatedFleet(settings, budget, self.queue, self.ended.append)
        self.fleet.apply([Wake(f"replica-{1 + index}", 1200, 8) for index in range(replicas)])

    def state(self) -> ReplicaState:
        return self.fleet.observe(self.queue.now_s).replicas[0].state


@pytest.fixture
def world() -> World:
    return World()


def test_a_replica_that_starts_does_not_fail_again(world: World) -> None:
    world.fleet.fail(0)
    assert world.state() == ReplicaState.GONE
    world.fleet.apply([Start("replica-1")])
    world.queue.run_until(START_S / 2)
    world.fleet.fail(0)
    assert world.state() == ReplicaState.STARTING
    world.queue.run_until(START_S)
    assert world.state() == ReplicaState.AWAKE


def test_a_request_that_fails_with_its_replica_counts_as_answered(
    world: World,
) -> None:
    demand = DemandEstimator()
    demand.update(Traffic(0.0, 0, 0, 0))
    world.fleet.observe(0.0)
    for number in range(1, 6):
        world.fleet.arrive(number, Arrival(0.0, 20, 1000))
    world.queue.run_until(5.0)
    world.fleet.fail(0)
    world.fleet.read_meters()
    assert [request.finish for request in world.ended] == ["failed"] * 5
    tokens = sum(request.output_tokens for request in world.ended)
    expected = demand.update(Traffic(5.0, 5, 5, tokens))
    assert world.fleet.observe(5.0).demand_tps == pytest.approx(expected.tps)


@pytest.mark.parametrize(("drain_s", "wake_s"), [(0.0, 2.0), (2.0, 0.0), (2.0, 2.0), (2.0, 40.0)])
def test_a_replica_that_wakes_to_finish_is_not_frozen_before_it_computes(
    drain_s: float, wake_s: float
) -> None:
    world, serving = World(2, wake_s), OperatingPoint(1200, 8, 100.0, 200.0)
    plan, rule = Plan((serving,), 200.0, draining=1), DrainRule(serving, drain_s)
    world.queue.run_until(wake_s)
    for number in range(1, 60):
        world.fleet.arrive(number, Arrival(wake_s, 20, 600))
    world.fleet.apply([Sleep("replica-2")])
    observation = world.fleet.observe(wake_s)
    frozen, sleeps = observation.replicas[1].outstanding, 0
    while observation.waiting and observation.replicas[1].outstanding and observation.now_s < 100.0:
        actions = reconcile(observation, plan, rule)
        sleeps += Sleep("replica-2") in actions
        world.fleet.apply(actions)
        world.queue.run_until(observation.now_s + 1.0)
        observation = world.fleet.observe(observation.now_s + 1.0)
    assert (frozen, sleeps) == (10, 0)
    assert observation.waiting
    assert not observation.replicas[1].outstanding


def test_the_draw_asleep_is_known_after_a_window_of_sleep() -> None:
    world, observed_w = World(2), []
    for at_s in (1.0, 2.0, 3.0):
        world.queue.run_until(at_s)
        world.fleet.read_meters()
        observed_w.append(world.fleet.observe(at_s).asleep_w)
        if at_s == 1.0:
            world.fleet.apply([Sleep("replica-2")])
    drawn_w = world.fleet.window().replicas[1].draw_w
    assert observed_w == [None, None, drawn_w]


def test_prompt_tokens_of_the_prefix_cache_are_no_tokens_to_compute(world: World) -> None:
    world.fleet.observe(0.0)
    for number in range(1, 6):
        world.fleet.arrive(number, Arrival(0.0, 900, 10, cached_tokens=600))
    lengths = world.fleet.observe(1.0).lengths
    assert lengths is not None
    assert (lengths.prompt_tokens, lengths.cached_tokens) == (300.0, 600.0)
