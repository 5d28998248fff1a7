from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.fixtures.curved_model import CurvedModel

from steppe.control.reconcile import Deepen, Sleep, Start
from steppe.control.sleep_ladder import SleepDepth, SleepRung
from steppe.control.state import ReplicaObservation, ReplicaState
from steppe.power.budget import PowerBudget
from steppe.power.site_terms import SiteTerms
from steppe.power.supply import Steady, TraceClock
from steppe.sim.engine.batch import BatchLimits
from steppe.sim.engine.kind import ReplicaKind, Transitions
from steppe.sim.events import EventQueue
from steppe.sim.fleet import SimulatedFleet
from steppe.sim.fleet_settings import FleetSettings
from steppe.sim.gateway import GatewayLimits

STOPPED = SleepRung(SleepDepth.STOPPED, 7.0, wake_s=20.0, sleep_s=5.0)
OFF = SleepRung(SleepDepth.OFF, 1.0, wake_s=60.0, sleep_s=10.0)
TRANSITION_W, NODE_REST_W = 50.0, 100.0


@dataclass
class World:
    """Four paused replicas on two nodes, in virtual time."""

    fleet: SimulatedFleet
    queue: EventQueue

    def replicas(self) -> tuple[ReplicaObservation, ...]:
        self.fleet.read_meters()
        return self.fleet.observe(self.queue.now_s).replicas

    def wait(self, seconds: float) -> None:
        self.queue.run_until(self.queue.now_s + seconds)

    def draw_w(self, seconds: float) -> list[float]:
        """Return the draw of each replica over the next seconds, W."""
        self.replicas()
        self.wait(seconds)
        self.replicas()
        return [replica.draw_w for replica in self.fleet.window().replicas]


@pytest.fixture
def world() -> World:
    times = Transitions(30.0, 0.0, 0.0, TRANSITION_W)
    kind = ReplicaKind(CurvedModel(), BatchLimits(), 600, 1200, times, rungs=(STOPPED, OFF))
    budget = PowerBudget(
        supplies=(Steady(1000.0),),
        clock=TraceClock(0.0, 1.0),
        terms=SiteTerms(0.0, 0.0, 5.0, 1.0, 0.0),
    )
    limits = GatewayLimits(100, 100.0, 2.0)
    settings = FleetSettings(4, kind, limits, 0.0, 2, NODE_REST_W)
    queue = EventQueue()
    fleet = SimulatedFleet(settings, budget, queue, lambda request: None)
    fleet.apply([Sleep(f"replica-{1 + index}") for index in range(4)])
    return World(fleet, queue)


def test_a_stopped_replica_draws_less_once_it_has_stopped(world: World) -> None:
    world.fleet.apply([Deepen("replica-1", SleepDepth.STOPPED)])
    assert [r.depth for r in world.replicas()][:2] == [SleepDepth.STOPPED, SleepDepth.PAUSED]
    paused_w = CurvedModel().asleep_w
    assert world.draw_w(STOPPED.sleep_s)[:2] == pytest.approx([paused_w, paused_w])
    assert world.draw_w(10.0)[:2] == pytest.approx([STOPPED.asleep_w, paused_w])
    assert world.replicas()[0].is_deep


def test_a_stopped_replica_serves_after_its_wake_time_and_draws_meanwhile(world: World) -> None:
    world.fleet.apply([Deepen("replica-1", SleepDepth.STOPPED)])
    world.wait(30.0)
    world.fleet.apply([Start("replica-1")])
    assert world.replicas()[0].state == ReplicaState.STARTING
    assert world.draw_w(STOPPED.wake_s - 1.0)[0] == pytest.approx(TRANSITION_W)
    assert world.replicas()[0].state == ReplicaState.STARTING
    world.wait(1.0)
    back = world.replicas()[0]
    assert (back.state, back.depth) == (ReplicaState.AWAKE, SleepDepth.PAUSED)


def test_the_watts_of_a_node_that_is_off_go_to_the_gpus(world: World) -> None:
    world.replicas()
    assert world.fleet.budget.gpu_budget_w == 1000.0 - 2 * NODE_REST_W
    world.fleet.apply([Deepen(f"replica-{n}", SleepDepth.OFF) for n in (1, 2)])
    world.replicas()
    assert world.fleet.budget.gpu_budget_w == 1000.0 - NODE_REST_W


def test_if_one_replica_of_a_node_comes_back_the_others_are_stopped(world: World) -> None:
    world.fleet.apply([Deepen(f"replica-{n}", SleepDepth.OFF) for n in (1, 2)])
    world.wait(30.0)
    world.fleet.apply([Start("replica-1")])
    first, second, third, _ = world.replicas()
    assert first.state == ReplicaState.STARTING
    assert (second.state, second.depth) == (ReplicaState.ASLEEP, SleepDepth.STOPPED)
    assert third.depth is SleepDepth.PAUSED
    world.wait(OFF.wake_s)
    assert world.replicas()[0].state == ReplicaState.AWAKE
