from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.horizon.battery import BatteryMemory, HorizonForecast, steer_battery
from steppe.control.horizon.inputs import HorizonTerms
from steppe.control.loop import ControlLoop
from steppe.control.plan import Plan
from steppe.control.policy.goals import FollowBudget
from steppe.control.reconcile import Action, DrainRule
from steppe.control.state import DeferrableWork, Observation, ReplicaState
from steppe.control.tick_times import TickTimes
from steppe.frontier.pareto import Frontier
from steppe.power.battery import Battery
from steppe.power.budget import PowerBudget
from steppe.power.site_terms import SiteTerms
from steppe.power.supply import TraceClock, TraceReplay
from steppe.power.trace import SupplyTrace

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP
STEP_S = 600.0


@dataclass
class Weather:
    """A forecast of one value now and another a step later; notes when the day was forecast."""

    watts: float
    later_w: float
    planned_s: list[float] = field(default_factory=list)

    def ahead(self, now_s: float, horizon_s: float, step_s: float) -> Sequence[tuple[float, float]]:
        if horizon_s > STEP_S:
            self.planned_s.append(now_s)
        ahead_s = [i * step_s for i in range(round(horizon_s / step_s + 0.5))]
        return [(now_s + s, self.later_w if s >= STEP_S else self.watts) for s in ahead_s]


def horizon_of(frontier: Frontier, weather: Weather, stored_j: float = 0.0) -> HorizonForecast:
    terms = HorizonTerms(frontier, 4, STEP_S, Battery(1e5, 100.0, 100.0))
    return HorizonForecast(terms, weather.ahead, 6, every_s=60.0, stored_j=lambda: stored_j)


def battery_w(observation: Observation, horizon: HorizonForecast) -> float:
    """Return what the battery gives by a first plan, W."""
    given_w = steer_battery(observation, BatteryMemory(), horizon).battery_w
    assert given_w is not None
    return given_w


def test_without_a_horizon_the_battery_is_not_steered() -> None:
    observation = FakeFleet.of([AWAKE], 100.0).observation
    assert steer_battery(observation, BatteryMemory(), None).battery_w is None


def test_the_day_is_planned_once_in_a_while(frontier: Frontier) -> None:
    weather, memory = Weather(100.0, 100.0), BatteryMemory()
    observation = FakeFleet.of([AWAKE] * 4, 100.0).observation
    for now_s in (0.0, 1.0, 59.0, 60.0, 61.0):
        later = replace(observation, now_s=now_s)
        memory = steer_battery(later, memory, horizon_of(frontier, weather))
    assert weather.planned_s == [0.0, 60.0]


def test_the_day_is_planned_again_when_requests_begin_to_wait(frontier: Frontier) -> None:
    weather = Weather(100.0, 100.0)
    horizon = horizon_of(frontier, weather)
    quiet = FakeFleet.of([AWAKE] * 4, 100.0, waiting=0).observation
    memory = steer_battery(quiet, BatteryMemory(), horizon)
    steer_battery(replace(quiet, now_s=1.0, waiting=50), memory, horizon)
    assert weather.planned_s == [0.0, 1.0]


def test_the_day_is_planned_again_when_the_budget_steps(frontier: Frontier) -> None:
    weather = Weather(200.0, 50.0)
    horizon = horizon_of(frontier, weather)
    observation = FakeFleet.of([AWAKE] * 4, 200.0).observation
    memory = steer_battery(observation, BatteryMemory(), horizon)
    assert (memory.battery_w or 0.0) < 0
    weather.watts, weather.later_w = 70.0, 200.0
    memory = steer_battery(replace(observation, now_s=1.0), memory, horizon)
    assert (memory.battery_w or 0.0) >= 0
    weather.watts = 72.0
    steer_battery(replace(observation, now_s=2.0), memory, horizon)
    assert weather.planned_s == [0.0, 1.0]


def test_the_battery_saves_watts_for_a_lull_and_gives_them_in_it(frontier: Frontier) -> None:
    full_w, lull_w = 4 * frontier.full.draw_w, 4 * frontier.floor.draw_w
    busy = FakeFleet.of([AWAKE] * 4, full_w).observation
    observation = replace(busy, demand_tps=4 * frontier.full.output_tps)
    assert battery_w(observation, horizon_of(frontier, Weather(full_w, lull_w))) < 0
    assert battery_w(observation, horizon_of(frontier, Weather(lull_w, full_w), 1e5)) > 0


def test_what_is_left_in_the_battery_serves_requests_that_wait_now(frontier: Frontier) -> None:
    night_w, one_w = 4 * frontier.asleep_w, frontier.floor.draw_w - frontier.asleep_w
    fleet = FakeFleet.of([ASLEEP] * 4, night_w, waiting=50)
    observation = replace(fleet.observation, demand_tps=1.0)
    for plans in range(3):
        stored_j = one_w * (STEP_S - plans * 60.0)
        night = horizon_of(frontier, Weather(night_w, night_w), stored_j)
        assert battery_w(observation, night) >= one_w


def test_the_battery_gives_power_for_a_whole_replica_or_none(frontier: Frontier) -> None:
    night_w, one_w = 4 * frontier.asleep_w, frontier.floor.draw_w - frontier.asleep_w
    fleet = FakeFleet.of([ASLEEP] * 4, night_w, waiting=50)
    observation = replace(fleet.observation, demand_tps=1.0)
    for stored_j in one_w * np.linspace(0.0, 3 * STEP_S, 30):
        night = horizon_of(frontier, Weather(night_w, night_w), float(stored_j))
        given_w = battery_w(observation, night)
        assert given_w == 0.0 or given_w >= one_w
        assert given_w * 60.0 <= stored_j


@pytest.mark.parametrize("patience_steps", [1, 3])
def test_deferrable_work_waits_for_the_wind_unless_it_is_due_before(
    frontier: Frontier, patience_steps: int
) -> None:
    full_w, lull_w, tokens = 4 * frontier.full.draw_w, 4 * frontier.asleep_w, 3e4
    horizon = horizon_of(frontier, Weather(lull_w, full_w))
    patient = replace(horizon.terms, patience_s=patience_steps * STEP_S)
    fleet = FakeFleet.of([ASLEEP] * 4, lull_w, waiting=50)
    queue = replace(fleet.observation, demand_tps=0.0, deferrable=DeferrableWork(0.0, 50, tokens))
    plan = replace(horizon, terms=patient).plan(queue)
    assert plan.firm_tps == pytest.approx([0.0] * 6)
    assert plan.late_tokens == pytest.approx(tokens / patience_steps)
    assert plan.deferred_tps[1] * STEP_S == pytest.approx(tokens - plan.late_tokens)


class Site:
    """A fleet that obeys, on a supply of 400 W that is cut to 110 W after 30 s, and a battery."""

    def __init__(self, fleet: FakeFleet) -> None:
        cut = SupplyTrace((0.0, 30.0, 30.01, 2000.0), (400.0, 400.0, 110.0, 110.0), None)
        self.fleet, self.drawn_w = fleet, 0.0
        self.budget = PowerBudget(
            supplies=(TraceReplay(cut, 0.0),),
            clock=TraceClock(0.0, 1.0),
            terms=SiteTerms(0.0, 0.0, 5.0, 1.0, 0.0),
            battery=Battery(40_000.0, 60.0, 60.0),
        )

    def observe(self, now_s: float) -> Observation:
        self.budget.settle(now_s, self.drawn_w)
        observation = self.fleet.observe(now_s)
        gpu_budget_w = self.budget.at(now_s).gpu_budget_w
        self.fleet.observation = replace(observation, gpu_budget_w=gpu_budget_w, demand_tps=400.0)
        return self.fleet.observation

    def apply(self, actions: list[Action]) -> None:
        self.fleet.apply(actions)


@dataclass
class SteersBattery:
    """The best plan for the budget, with the battery by a plan of the day."""

    goal: FollowBudget
    horizon: HorizonForecast
    memory: BatteryMemory = field(default_factory=BatteryMemory)

    def decide(self, observation: Observation) -> Plan:
        self.memory = steer_battery(observation, self.memory, self.horizon)
        return replace(self.goal.decide(observation), battery_w=self.memory.battery_w)


@pytest.mark.parametrize("lead_s", [0.0, 0.2])
def test_the_battery_does_not_charge_with_watts_that_a_known_cut_will_take(
    frontier: Frontier, lead_s: float
) -> None:
    site = Site(FakeFleet.of([AWAKE] * 4, 400.0))
    store = site.budget.battery_view
    assert store is not None
    terms = HorizonTerms(frontier, 4, 60.0, store.battery)
    horizon = HorizonForecast(terms, store.forecast, 20, 60.0, store.stored_j)
    policy = SteersBattery(FollowBudget(frontier, frontier.floor.draw_w), horizon)
    times = TickTimes(site.budget.gpu_budget_at, 1.0, lead_s)
    loop = ControlLoop(site, policy, DrainRule(frontier.drain, 30.0), times)
    now_s, awake = 0.0, []
    while now_s < 40.0:
        plan = loop.tick(now_s)
        site.budget.set_battery(plan.battery_w)
        site.drawn_w = plan.draw_w
        awake.append(len(plan.awake))
        now_s = times.after(now_s)
    assert site.budget.stored_j > 1000.0
    assert min(awake) > 0
