from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.loop import ControlLoop, without_clock_moves
from steppe.control.policy.feedback import FeedbackSettings
from steppe.control.policy.goals import FollowBudget
from steppe.control.policy.keep_awake import KeepAwakeSettings
from steppe.control.policy.pipeline import PolicyPipeline
from steppe.control.reconcile import Action, Drain, DrainRule, Retune, Sleep, Start, Wake
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.control.tick_times import TickTimes
from steppe.frontier.pareto import Frontier

DRAIN_S = 8.0


@dataclass
class Plant:
    """A fleet whose draw is the plan's times a bias, with noise; commands act a little late.

    A window that begins with new limits still draws by the old ones for `late_share` of it.
    """

    fleet: Any
    frontier: Frontier
    rng: np.random.Generator
    bias: float = 1.0
    noise: float = 0.0
    late_share: float = 0.0
    budget_w: float = 0.0
    waiting: int = 9
    _before: tuple[ReplicaObservation, ...] = ()
    _after: tuple[ReplicaObservation, ...] = ()
    draws_w: list[float] = field(default_factory=list)

    def observe(self, now_s: float) -> Observation:
        if self._after:
            late = self.late_share
            true_w = late * self._steady_w(self._before) + (1 - late) * self._steady_w(self._after)
            self.draws_w.append(true_w * (1 + self.noise * float(self.rng.standard_normal())))
        draw_w = self.draws_w[-1] if self.draws_w else None
        observation = self.fleet.observe(now_s)
        self.fleet.observation = replace(
            observation, gpu_budget_w=self.budget_w, draw_w=draw_w, waiting=self.waiting
        )
        return self.fleet.observation  # type: ignore[no-any-return]

    def apply(self, actions: list[Action]) -> None:
        self._before = self.fleet.observation.replicas
        self.fleet.apply(actions)
        self._after = self.fleet.observation.replicas

    def _steady_w(self, replicas: tuple[ReplicaObservation, ...]) -> float:
        points = {(p.clock_mhz, p.batch_limit): p.draw_w for p in self.frontier.points}
        draws = {ReplicaState.ASLEEP: self.frontier.asleep_w}
        return self.bias * sum(
            draws.get(r.state, points.get((r.clock_mhz, r.batch_limit), self.frontier.idle_w))
            for r in replicas
        )


def loop_over(plant: Plant, frontier: Frontier) -> ControlLoop:
    goal = FollowBudget(frontier, drain_w=frontier.floor.draw_w)
    feedback = FeedbackSettings(frontier.asleep_w, 0.0, margin_share=0.02, over_share=2e-4)
    keep_awake = KeepAwakeSettings(frontier.floor, frontier.asleep_w, wake_j=0.0)
    policy = PolicyPipeline(goal, feedback, keep_awake, dwell_s=5.0)
    times = TickTimes(lambda _: plant.budget_w, 1.0, 0.0)
    rule = DrainRule(frontier.floor, DRAIN_S)
    return ControlLoop(plant, policy, rule, times)


def test_while_clocks_are_held_other_actions_go_on() -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE] * 2 + [ReplicaState.DRAINING], 0.0).observation
    clock, batch, back = (
        Retune("replica-0", 1200, 4),
        Retune("replica-1", 600, 16),
        Retune("replica-2", 1200, 4),
    )
    others: list[Action] = [Sleep("replica-1"), batch, back, Wake("replica-3", 1200, 4)]
    assert without_clock_moves(observation, [*others, clock]) == others


def test_while_the_cut_of_a_clock_rests_nothing_rises() -> None:
    observation = FakeFleet.of([ReplicaState.AWAKE] * 2 + [ReplicaState.DRAINING], 0.0).observation
    fast = replace(observation.replicas[0], clock_mhz=1800, batch_limit=4)
    observation = replace(observation, replicas=(fast, *observation.replicas[1:]))
    cut, lower = Retune("replica-0", 1200, 4), Retune("replica-1", 600, 1)
    rises: list[Action] = [
        Retune("replica-1", 600, 16),
        Retune("replica-2", 1200, 4),
        Wake("replica-3", 1200, 4),
        Drain("replica-6", 600, 4),
    ]
    stay: list[Action] = [Sleep("replica-4"), lower, Start("replica-5")]
    assert without_clock_moves(observation, [*stay, cut, *rises]) == stay


def test_a_staircase_of_steps_is_followed_step_by_step(
    frontier: Frontier, plant: Callable[..., Plant]
) -> None:
    made = plant(4, 0)
    stairs_w = [110.0 * 1.1**step for step in range(9)]
    times = TickTimes(lambda at_s: stairs_w[min(8, int(at_s / 0.9 + 1e-9))], 1.0, 0.2)
    loop, now_s, allowed_w = replace(loop_over(made, frontier), times=times), 0.0, []
    while now_s < 7.5:
        made.budget_w = times.budget_w(now_s)
        allowed_w.append(made.budget_w)
        loop.tick(now_s)
        now_s = times.after(now_s)
    made.observe(now_s)
    assert np.array(made.draws_w) / allowed_w == pytest.approx(0.9, abs=0.1)


def run(plant: Plant, loop: ControlLoop, budgets_w: list[float]) -> np.ndarray[Any, Any]:
    """Tick once a second and return the draw of each window, W."""
    for now_s, budget_w in enumerate(budgets_w):
        plant.budget_w = budget_w
        loop.tick(float(now_s))
    plant.observe(float(len(budgets_w)))
    return np.array(plant.draws_w)


def random_walk(rng: np.random.Generator, low_w: float, high_w: float, ticks: int) -> list[float]:
    """Return a budget that wanders between two bounds, by 2 % of its range a tick."""
    walk = [(low_w + high_w) / 2]
    for step in rng.normal(0.0, 0.02 * (high_w - low_w), ticks - 1):
        walk.append(float(np.clip(walk[-1] + step, low_w, high_w)))
    return walk


@pytest.fixture
def plant(frontier: Frontier) -> Callable[..., Plant]:
    def make(replicas: int, seed: int, **settings: float) -> Plant:
        fleet = FakeFleet.of([ReplicaState.AWAKE] * replicas, 0.0)
        return Plant(fleet, frontier, np.random.default_rng(seed), **settings)  # type: ignore[arg-type]

    return make


def test_the_tick_ahead_of_a_cut_lowers_the_clocks_that_would_rest_before_it(
    frontier: Frontier, plant: Callable[..., Plant]
) -> None:
    made, cut_s, lead_s, low_w = plant(4, 0), 10.3, 0.2, 120.0
    times = TickTimes(lambda at_s: low_w if at_s >= cut_s else 200.0, 1.0, lead_s)
    loop, now_s, clocks_mhz = replace(loop_over(made, frontier), times=times), 0.0, []
    while now_s < cut_s:
        made.budget_w = times.budget_w(now_s)
        loop.tick(now_s)
        clocks_mhz.append(max(replica.clock_mhz for replica in made.fleet.observation.replicas))
        now_s = times.after(now_s)
    assert clocks_mhz[-1] < clocks_mhz[-2]
    made.observe(now_s)
    assert made.draws_w[-1] <= low_w


@pytest.mark.parametrize("bias", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("replicas", [2, 6])
def test_the_draw_tracks_a_wandering_budget_while_work_waits(
    frontier: Frontier, plant: Callable[..., Plant], bias: float, replicas: int
) -> None:
    made = plant(replicas, 7, bias=bias, noise=0.005, late_share=0.1)
    low_w, high_w = 1.2 * replicas * frontier.floor.draw_w, replicas * frontier.full.draw_w
    budgets = random_walk(np.random.default_rng(3), low_w, high_w, 300)
    draws = run(made, loop_over(made, frontier), budgets)
    budget = np.array(budgets)
    settled = slice(20, None)
    error = np.abs(draws - budget)[settled].mean() / budget[settled].mean()
    assert error <= 0.08
    assert (draws > budget)[settled].mean() <= 0.02


def test_a_budget_below_the_floor_puts_the_fleet_to_sleep_and_it_comes_back(
    frontier: Frontier, plant: Callable[..., Plant]
) -> None:
    made = plant(2, 0)
    loop = loop_over(made, frontier)
    run(made, loop, [150.0] * 10 + [1.0] * 20)
    assert made.fleet.observation.count(ReplicaState.ASLEEP) == 2
    made.budget_w = 150.0
    for now_s in range(30, 45):
        loop.tick(float(now_s))
    assert made.fleet.observation.count(ReplicaState.AWAKE) == 2


def test_a_steady_budget_leaves_a_steady_fleet_alone(
    frontier: Frontier, plant: Callable[..., Plant]
) -> None:
    made = plant(3, 0)
    loop = loop_over(made, frontier)
    run(made, loop, [140.0] * 30)
    before = made.fleet.observation.replicas
    for now_s in range(30, 60):
        loop.tick(float(now_s))
        assert made.fleet.actions == []
    assert made.fleet.observation.replicas == before


@pytest.mark.parametrize("factor", [0.0, 4.0, 100.0])
def test_an_absurd_reading_is_forgotten(
    frontier: Frontier, plant: Callable[..., Plant], factor: float
) -> None:
    made = plant(2, 0)
    loop = loop_over(made, frontier)
    budget_w = 2 * frontier.floor.draw_w + 6
    before_w = run(made, loop, [budget_w] * 30)[-1]
    made.bias = factor
    run(made, loop, [budget_w] * 2)
    made.bias = 1.0
    draws = run(made, loop, [budget_w] * 120)
    assert made.fleet.observation.count(ReplicaState.AWAKE) == 2
    assert draws[-1] == pytest.approx(before_w, rel=0.03)
