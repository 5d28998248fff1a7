from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from steppe.control.horizon.bounds import HorizonBounds, HorizonForecast
from steppe.control.horizon.inputs import HorizonTerms
from steppe.control.loop import ControlLoop
from steppe.control.plan import AwakeBounds
from steppe.control.policy.policies import FollowBudget
from steppe.control.reconcile import Action, DrainRule, Start, reconcile
from steppe.control.state import DeferrableWork, Observation, ReplicaState
from steppe.control.tick_times import TickTimes
from steppe.frontier.pareto import Frontier
from steppe.power.battery import Battery
from steppe.power.budget import PowerBudget, SiteTerms
from steppe.power.supply import TraceClock, TraceReplay
from steppe.power.trace import SupplyTrace

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP
STEP_S = 600.0


@dataclass
class Weather:
    """A forecast of one value now and another a step later; notes when it was asked far ahead."""

    watts: float
    later_w: float
    asked_s: list[float] = field(default_factory=list)

    def ahead(self, now_s: float, horizon_s: float, step_s: float) -> Sequence[tuple[float, float]]:
        if horizon_s > STEP_S:
            self.asked_s.append(now_s)
        ahead_s = [i * step_s for i in range(round(horizon_s / step_s + 0.5))]
        return [(now_s + s, self.later_w if s >= STEP_S else self.watts) for s in ahead_s]


def planned(
    frontier: Frontier, weather: Weather, replicas: int, wake_j: float = 0.0
) -> HorizonBounds:
    terms = HorizonTerms(frontier, replicas, wake_j, STEP_S)
    follow = FollowBudget(frontier, frontier.floor.draw_w)
    return HorizonBounds(
        follow, HorizonForecast(terms, weather.ahead, 6, low_share=0.8), every_s=60.0
    )


def test_the_horizon_is_looked_at_once_in_a_while(frontier: Frontier, fleets: Any) -> None:
    weather = Weather(100.0, 100.0)
    policy = planned(frontier, weather, 2)
    observation = fleets.of([AWAKE] * 2, 100.0).observation
    for now_s in (0.0, 1.0, 59.0, 60.0, 61.0):
        policy.decide(replace(observation, now_s=now_s))
    assert sorted(set(weather.asked_s)) == [0.0, 60.0]


def test_requests_that_begin_to_wait_are_a_reason_to_look_again(
    frontier: Frontier, fleets: Any
) -> None:
    policy = planned(frontier, Weather(1000.0, 1000.0), 4)
    observation = fleets.of([AWAKE] * 4, 1000.0, waiting=0).observation
    idle = tuple(replace(replica, outstanding=0) for replica in observation.replicas)
    quiet = replace(observation, demand_tps=0.0, replicas=idle)
    assert policy.decide(quiet).awake == (frontier.floor,)
    queue = replace(quiet, now_s=1.0, waiting=50)
    assert len(policy.decide(queue).awake) == 4


def test_replicas_that_are_needed_soon_stay_warm_through_a_lull(
    frontier: Frontier, fleets: Any
) -> None:
    lull_w = 4 * frontier.floor.draw_w + 1.0
    lull = fleets.of([AWAKE] * 4, lull_w, waiting=0).observation
    observation = replace(lull, demand_tps=4 * frontier.full.output_tps)
    weather = Weather(lull_w / 0.8, 1000.0)
    dear, free = planned(frontier, weather, 4, wake_j=1e7), planned(frontier, weather, 4)
    assert len(dear.decide(observation).awake) == 4
    assert len(free.decide(observation).awake) < 4


def test_where_work_waits_nobody_stays_warm_who_would_serve_less(
    frontier: Frontier, fleets: Any
) -> None:
    observation = fleets.of([AWAKE] * 4, 4 * frontier.floor.draw_w + 1.0).observation
    dear = planned(frontier, Weather(observation.gpu_budget_w / 0.8, 1000.0), 4, wake_j=1e7)
    best = FollowBudget(frontier, frontier.floor.draw_w).decide(observation)
    assert len(best.awake) < 4
    assert dear.decide(observation) == best


def test_the_budget_is_stronger_than_the_horizon(frontier: Frontier, fleets: Any) -> None:
    policy = planned(frontier, Weather(1000.0, 1000.0), 4, wake_j=1e9)
    plan = policy.decide(fleets.of([AWAKE] * 4, 4 * frontier.asleep_w + 1.0).observation)
    assert plan.awake == ()
    assert plan.feasible


def with_battery(frontier: Frontier, weather: Weather, stored_j: float) -> HorizonBounds:
    battery = Battery(1e5, 100.0, 100.0)
    terms = HorizonTerms(frontier, 4, 0.0, STEP_S, battery)
    ahead = HorizonForecast(terms, weather.ahead, 6, 0.8, lambda: stored_j)
    return HorizonBounds(FollowBudget(frontier, frontier.floor.draw_w), ahead, every_s=60.0)


def test_the_battery_keeps_watts_for_a_lull_and_gives_them_in_it(
    frontier: Frontier, fleets: Any
) -> None:
    full_w, lull_w = 4 * frontier.full.draw_w, 4 * frontier.floor.draw_w
    observation = replace(
        fleets.of([AWAKE] * 4, full_w).observation, demand_tps=4 * frontier.full.output_tps
    )
    before = with_battery(frontier, Weather(full_w, lull_w), 0.0).decide(observation)
    within = with_battery(frontier, Weather(lull_w, full_w), 1e5).decide(observation)
    assert before.battery_w is not None
    assert before.battery_w < 0
    assert within.battery_w is not None
    assert within.battery_w > 0


def test_what_is_left_in_the_battery_serves_those_who_wait_now_and_not_at_some_later_look(
    frontier: Frontier, fleets: Any
) -> None:
    night_w, one_w = 4 * frontier.asleep_w, frontier.floor.draw_w - frontier.asleep_w
    observation = replace(fleets.of([ASLEEP] * 4, night_w, waiting=50).observation, demand_tps=1.0)
    for looks in range(3):
        night = with_battery(frontier, Weather(night_w, night_w), one_w * (STEP_S - looks * 60.0))
        assert (night.decide(observation).battery_w or 0.0) >= one_w


def test_the_battery_gives_a_whole_replica_or_nothing(frontier: Frontier, fleets: Any) -> None:
    night_w, one_w = 4 * frontier.asleep_w, frontier.floor.draw_w - frontier.asleep_w
    observation = replace(fleets.of([ASLEEP] * 4, night_w, waiting=50).observation, demand_tps=1.0)
    for stored_j in one_w * np.linspace(0.0, 3 * STEP_S, 30):
        plan = with_battery(frontier, Weather(night_w, night_w), float(stored_j)).decide(
            observation
        )
        assert plan.battery_w == 0.0 or (plan.battery_w or 0.0) >= one_w
        assert (plan.battery_w or 0.0) * 60.0 <= stored_j


@pytest.mark.parametrize("patience_steps", [1, 3])
def test_what_may_wait_is_planned_for_when_the_wind_comes_unless_it_is_due_before(
    frontier: Frontier, fleets: Any, patience_steps: int
) -> None:
    full_w, lull_w, tokens = 4 * frontier.full.draw_w, 4 * frontier.asleep_w, 3e4
    horizon = with_battery(frontier, Weather(lull_w, full_w), 0.0).horizon
    patient = replace(horizon.terms, patience_s=patience_steps * STEP_S)
    queue = replace(fleets.of([ASLEEP] * 4, lull_w, waiting=50).observation, demand_tps=0.0)
    observation = replace(queue, deferrable=DeferrableWork(0.0, 50, tokens))
    plan = replace(horizon, terms=patient).look(observation, 1.0)
    assert plan.firm_tps == pytest.approx([0.0] * 6)
    assert plan.late_tokens == pytest.approx(tokens / patience_steps)
    assert plan.deferred_tps[1] * STEP_S == pytest.approx(tokens - plan.late_tokens)


def test_a_budget_that_stepped_is_a_reason_to_look_again(frontier: Frontier, fleets: Any) -> None:
    weather = Weather(200.0, 50.0)
    policy = with_battery(frontier, weather, 0.0)
    observation = fleets.of([AWAKE] * 4, 200.0).observation
    assert (policy.decide(observation).battery_w or 0.0) < 0
    weather.watts, weather.later_w = 70.0, 200.0
    assert (policy.decide(replace(observation, now_s=1.0, gpu_budget_w=70.0)).battery_w or 0.0) >= 0
    policy.decide(replace(observation, now_s=2.0, gpu_budget_w=72.0))
    assert sorted(set(weather.asked_s)) == [0.0, 1.0]


def test_every_plan_of_a_horizon_says_what_the_battery_does(
    frontier: Frontier, fleets: Any
) -> None:
    observation = fleets.of([AWAKE] * 4, 100.0).observation
    policy = with_battery(frontier, Weather(100.0, 50.0), 1e4)
    assert policy.decide(observation).battery_w == policy.battery_w is not None
    assert policy.decide_among(observation, AwakeBounds(1, 2)).battery_w == policy.battery_w
    assert planned(frontier, Weather(100.0, 50.0), 4).decide(observation).battery_w is None


def test_narrower_bounds_win_over_the_horizon(frontier: Frontier, fleets: Any) -> None:
    policy = planned(frontier, Weather(1000.0, 1000.0), 4, wake_j=1e9)
    observation = fleets.of([AWAKE] * 4, 1000.0).observation
    assert len(policy.decide_among(observation, AwakeBounds(2, 2)).awake) == 2


def test_one_replica_may_wake_for_the_watts_of_now_however_little_a_wake_is_worth_ahead(
    frontier: Frontier, fleets: Any
) -> None:
    policy = planned(frontier, Weather(0.0, 0.0), 4, wake_j=1e9)
    plan = policy.decide(fleets.of([ASLEEP] * 4, 1000.0).observation)
    assert policy.horizon.look(fleets.of([ASLEEP] * 4, 1000.0).observation, 1.0).bounds.most == 0
    assert len(plan.awake) == 1


def test_a_fleet_with_work_and_watts_runs_whole(frontier: Frontier, fleets: Any) -> None:
    policy = planned(frontier, Weather(1000.0, 1000.0), 4)
    plan = policy.decide(fleets.of([AWAKE, ASLEEP, ASLEEP, ASLEEP], 1000.0).observation)
    assert plan.awake == (frontier.full,) * 4


@pytest.mark.parametrize("state", [ReplicaState.GONE, ReplicaState.STARTING])
def test_a_replica_that_cannot_serve_is_not_counted_on_however_warm_the_horizon_wants_it(
    frontier: Frontier, fleets: Any, state: ReplicaState
) -> None:
    policy = planned(frontier, Weather(1000.0, 1000.0), 4, wake_j=100.0)
    observation = fleets.of([AWAKE] * 3 + [state], 1000.0).observation
    plan = policy.decide(replace(observation, demand_tps=4 * frontier.full.output_tps))
    assert len(plan.awake) == 3
    actions = reconcile(observation, plan, DrainRule(frontier.floor, 8.0))
    assert (Start("replica-3") in actions) == (state == ReplicaState.GONE)


def test_replicas_that_could_not_be_counted_on_at_the_last_look_serve_as_soon_as_they_can(
    frontier: Frontier, fleets: Any
) -> None:
    policy = planned(frontier, Weather(1000.0, 1000.0), 4)
    whole = fleets.of([AWAKE] * 4, 1000.0).observation
    assert len(policy.decide(replace(whole, replicas=whole.replicas[:1])).awake) == 1
    assert len(policy.decide(replace(whole, now_s=1.0)).awake) == 4


class Sited:
    """A fleet that obeys, on a supply of 400 W that is cut to 110 W after 30 s, and a battery."""

    def __init__(self, fleet: Any) -> None:
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
        budget_w = self.budget.at(now_s).gpu_budget_w
        self.fleet.observation = replace(observation, gpu_budget_w=budget_w, demand_tps=400.0)
        return self.fleet.observation  # type: ignore[no-any-return]

    def apply(self, actions: list[Action]) -> None:
        self.fleet.apply(actions)


@pytest.mark.parametrize("lead_s", [0.0, 0.2])
def test_nothing_is_charged_with_watts_that_a_cut_foretold_will_take(
    frontier: Frontier, fleets: Any, lead_s: float
) -> None:
    site = Sited(fleets.of([AWAKE] * 4, 400.0))
    assert site.budget.battery_view is not None
    terms = HorizonTerms(frontier, 4, 0.0, 60.0, site.budget.battery_view.battery)
    ahead = HorizonForecast(
        terms, site.budget.battery_view.forecast, 20, 0.8, site.budget.battery_view.stored_j
    )
    policy = HorizonBounds(FollowBudget(frontier, frontier.floor.draw_w), ahead, every_s=60.0)
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
