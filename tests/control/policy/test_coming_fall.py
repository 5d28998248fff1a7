"""Replicas that a known fall of a limit puts to sleep finish their requests before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.loop import ControlLoop
from steppe.control.plan import Plan
from steppe.control.policy.coming_fall import after_fall
from steppe.control.policy.feedback import FeedbackSettings
from steppe.control.policy.goals import FollowBudget
from steppe.control.policy.keep_awake import KeepAwakeSettings
from steppe.control.policy.pipeline import PolicyPipeline
from steppe.control.pools import Pool, ShareBudget
from steppe.control.reconcile import Action, Drain, DrainRule, Sleep
from steppe.control.state import ReplicaState
from steppe.control.tick_times import TickTimes
from steppe.frontier.pareto import Frontier

AWAKE = ReplicaState.AWAKE
REPLICAS, DRAIN_S, FALLS_S = 8, 8.0, 100.0
TICKS = 15


@dataclass(frozen=True)
class Fall:
    """A limit that falls at once, at a time that is known."""

    before_w: float
    after_w: float

    def at(self, now_s: float) -> float:
        return self.after_w if now_s >= FALLS_S else self.before_w

    def ahead(self, now_s: float, horizon_s: float, step_s: float) -> Sequence[tuple[float, float]]:
        times_s = [now_s + (step + 1) * step_s for step in range(round(horizon_s / step_s))]
        return [(at_s, self.at(at_s)) for at_s in times_s]


@dataclass
class Site:
    """A fleet whose replicas take four ticks to finish their requests."""

    fall: Fall
    fleet: FakeFleet
    plans: dict[float, Plan] = field(default_factory=dict)
    actions: dict[float, list[Action]] = field(default_factory=dict)

    def observe(self, now_s: float) -> object:
        observation = self.fleet.observe(now_s)
        ended = tuple(
            replace(r, outstanding=0)
            if r.state == ReplicaState.DRAINING and now_s - r.since_s >= 4
            else r
            for r in observation.replicas
        )
        self.fleet.observation = replace(
            observation, gpu_budget_w=self.fall.at(now_s), replicas=ended
        )
        return self.fleet.observation

    def apply(self, actions: list[Action]) -> None:
        self.actions[self.fleet.observation.now_s] = actions
        self.fleet.apply(actions)


def policy_of(frontier: Frontier) -> PolicyPipeline:
    goal = FollowBudget(frontier, drain_w=frontier.drain.draw_w)
    feedback = FeedbackSettings(frontier.asleep_w, 0.0, margin_share=0.0, over_share=1.0)
    keep_awake = KeepAwakeSettings(frontier.floor, frontier.asleep_w, wake_j=0.0)
    return PolicyPipeline(goal, feedback, keep_awake, dwell_s=5.0)


def run(frontier: Frontier, fall: Fall, *, notice: bool = True) -> Site:
    """Tick from well before the fall until after it."""
    site = Site(fall, FakeFleet.of([AWAKE] * REPLICAS, fall.before_w))
    times = TickTimes(fall.at, 1.0, 0.2)
    loop = ControlLoop(
        site,  # type: ignore[arg-type]
        policy_of(frontier),
        DrainRule(frontier.drain, DRAIN_S),
        times,
        limits=fall.ahead if notice else None,
    )
    now_s = FALLS_S - TICKS
    while now_s < FALLS_S + 3:
        site.plans[now_s] = loop.tick(now_s)
        now_s = times.after(now_s)
    return site


def deep(frontier: Frontier) -> Fall:
    """Return a fall below what all replicas draw at the lowest point."""
    half_w = REPLICAS / 2 * (frontier.floor.draw_w + frontier.asleep_w)
    return Fall(REPLICAS * frontier.full.draw_w, half_w)


def frozen(site: Site) -> int:
    """Return how many requests are inside sleeping replicas."""
    return site.fleet.observation.frozen


def test_replicas_that_a_fall_puts_to_sleep_drain_before_it_and_freeze_no_request(
    frontier: Frontier,
) -> None:
    site = run(frontier, deep(frontier))
    drains = [at_s for at_s, found in site.actions.items() if any(map(is_drain, found))]
    assert FALLS_S - DRAIN_S - 1 <= min(drains) < FALLS_S - 4
    assert frozen(site) == 0
    assert frozen(run(frontier, deep(frontier), notice=False)) > 0


def test_before_the_time_of_a_drain_a_fall_that_is_known_changes_nothing(
    frontier: Frontier,
) -> None:
    known, unknown = (run(frontier, deep(frontier), notice=each) for each in (True, False))
    early = [at_s for at_s in known.plans if at_s < FALLS_S - DRAIN_S - 1]
    assert len(early) > 5
    assert [known.plans[at_s] for at_s in early] == [unknown.plans[at_s] for at_s in early]


def test_a_fall_that_clocks_can_follow_moves_no_replica(frontier: Frontier) -> None:
    full_w = REPLICAS * frontier.full.draw_w
    site = run(frontier, Fall(full_w, 0.7 * full_w))
    assert not any(
        isinstance(each, Drain | Sleep) for found in site.actions.values() for each in found
    )
    assert {len(plan.awake) for plan in site.plans.values()} == {REPLICAS}


@settings(deadline=None, max_examples=10)
@given(before=st.floats(0.2, 1.2), after=st.floats(0.0, 1.2))
def test_no_plan_exceeds_the_limit_now_or_the_one_that_comes_before_the_next_tick(
    frontier: Frontier, before: float, after: float
) -> None:
    full_w = REPLICAS * frontier.full.draw_w
    fall = Fall(before * full_w, after * full_w)
    site = run(frontier, fall)
    for at_s, plan in site.plans.items():
        limit_w = min(fall.at(at_s), fall.at(at_s + 0.2))
        assert plan.draw_w <= limit_w + 1e-6 or not plan.feasible


def test_replicas_that_drain_already_do_not_count_twice(frontier: Frontier) -> None:
    states = [AWAKE] * 4 + [ReplicaState.DRAINING] * 4
    observation = FakeFleet.of(states, 1000.0).observation.with_limit_ahead(500.0)
    fallen = after_fall(observation)
    assert fallen is not None
    assert (fallen.gpu_budget_w, fallen.counts.draining, fallen.counts.usable) == (500.0, 0, 8)
    assert after_fall(observation.with_limit_ahead(math.inf)) is None
    assert after_fall(observation.with_limit_ahead(990.0)) is None


def test_each_pool_prepares_for_its_own_part_of_a_fall(frontier: Frontier) -> None:
    pools = {n: Pool(frontier, frontier.drain.draw_w, policy_of(frontier), 1.0) for n in "ab"}
    fall = deep(frontier)
    parts = {n: FakeFleet.of([AWAKE] * REPLICAS, 0.0).observation for n in pools}
    both = [r for part in parts.values() for r in part.replicas]
    whole = replace(parts["a"], gpu_budget_w=2 * fall.before_w, replicas=tuple(both), pools=parts)
    plan = ShareBudget(pools).decide(whole.with_limit_ahead(2 * fall.after_w))
    assert all(0 < len(part.awake) < REPLICAS for part in plan.pools.values())
    assert plan.draining > 0


def is_drain(action: Action) -> bool:
    return isinstance(action, Drain)
