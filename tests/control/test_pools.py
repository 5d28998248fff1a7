from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.loop import ControlLoop, lowering_first
from steppe.control.plan import Plan
from steppe.control.policy.goals import FollowBudget
from steppe.control.pools import Pool, ShareBudget
from steppe.control.reconcile import DrainRule, Retune, Sleep, Wake
from steppe.control.sleep_ladder import SleepDepth
from steppe.control.state import Observation, ReplicaState
from steppe.control.tick_times import TickTimes
from steppe.frontier.pareto import Frontier

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP
states = st.lists(st.sampled_from(ReplicaState), min_size=1, max_size=5)


def pool_of(frontier: Frontier, value: float = 1.0) -> Pool:
    drain_w = frontier.floor.draw_w
    return Pool(frontier, drain_w, FollowBudget(frontier, drain_w), value)


def part_of(name: str, found: list[ReplicaState], waiting: int = 1) -> Observation:
    whole = FakeFleet.of(found, 0.0, waiting).observation
    replicas = tuple(replace(r, id=f"{name}-{r.id}", pool=name) for r in whole.replicas)
    return replace(whole, replicas=replicas)


def together(budget_w: float, **parts: Observation) -> Observation:
    first = next(iter(parts.values()))
    replicas = tuple(r for part in parts.values() for r in part.replicas)
    return replace(first, gpu_budget_w=budget_w, replicas=replicas, pools=parts)


@settings(deadline=None)
@given(st.lists(states, min_size=1, max_size=3), st.floats(0, 1000), st.integers(0, 1))
def test_the_pools_together_never_draw_more_than_the_budget(
    frontier: Frontier, found: list[list[ReplicaState]], budget_w: float, waiting: int
) -> None:
    parts = {f"model-{i}": part_of(f"model-{i}", each, waiting) for i, each in enumerate(found)}
    plan = ShareBudget({name: pool_of(frontier) for name in parts}).decide(
        together(budget_w, **parts)
    )
    assert sum(of_pool.share_w for of_pool in plan.pools.values()) <= budget_w + 1e-6
    for of_pool in plan.pools.values():
        assert of_pool.draw_w <= of_pool.share_w + 1e-6 or not of_pool.feasible


@pytest.mark.parametrize("replicas", [3, 40])
def test_one_pool_alone_gets_the_plan_that_it_would_make_itself(
    frontier: Frontier, replicas: int
) -> None:
    budget_w = 0.6 * replicas * frontier.full.draw_w
    observation = together(budget_w, model=part_of("model", [AWAKE] * replicas))
    plan = ShareBudget({"model": pool_of(frontier)}).decide(observation)
    alone = FollowBudget(frontier, frontier.floor.draw_w).decide(observation)
    assert plan.pools["model"].share_w == pytest.approx(budget_w)
    assert (plan.awake, plan.draw_w) == (alone.awake, alone.draw_w)


def test_the_pool_with_the_dearer_tokens_is_served_first(frontier: Frontier) -> None:
    tight_w = 2 * frontier.full.draw_w + 2 * frontier.asleep_w
    observation = together(
        tight_w, cheap=part_of("cheap", [AWAKE] * 2), dear=part_of("dear", [AWAKE] * 2)
    )
    pools = {"cheap": pool_of(frontier), "dear": pool_of(frontier, 1000.0)}
    plan = ShareBudget(pools).decide(observation)
    assert plan.pools["cheap"].awake == ()
    assert plan.pools["dear"].awake == (frontier.full, frontier.full)


def test_a_pool_without_work_leaves_its_watts_to_the_others(frontier: Frontier) -> None:
    quiet = part_of("rest", [AWAKE] * 2, waiting=0)
    idle = replace(
        quiet, demand_tps=0.0, replicas=tuple(replace(r, outstanding=0) for r in quiet.replicas)
    )
    budget_w = 2 * frontier.full.draw_w + frontier.floor.draw_w + frontier.asleep_w
    observation = together(budget_w, busy=part_of("busy", [AWAKE] * 2), rest=idle)
    plan = ShareBudget({"busy": pool_of(frontier), "rest": pool_of(frontier)}).decide(observation)
    assert plan.pools["busy"].awake == (frontier.full, frontier.full)


def test_below_their_floor_the_pools_share_what_there_is(frontier: Frontier) -> None:
    observation = together(
        2 * frontier.asleep_w,
        small=part_of("small", [ASLEEP]),
        large=part_of("large", [ASLEEP] * 3),
    )
    plan = ShareBudget({"small": pool_of(frontier), "large": pool_of(frontier)}).decide(observation)
    assert [of_pool.share_w for of_pool in plan.pools.values()] == pytest.approx(
        [0.5 * frontier.asleep_w, 1.5 * frontier.asleep_w]
    )
    assert not plan.feasible


def test_a_pool_scaled_to_zero_reserves_only_what_its_stopped_replicas_draw(
    frontier: Frontier,
) -> None:
    stopped = part_of("stopped", [ASLEEP] * 2, waiting=0)
    stopped = replace(
        stopped,
        demand_tps=0.0,
        replicas=tuple(
            replace(r, outstanding=0, depth=SleepDepth.STOPPED, deep_w=0.0)
            for r in stopped.replicas
        ),
    )
    budget_w = 2 * frontier.full.draw_w
    observation = together(budget_w, busy=part_of("busy", [AWAKE] * 2), stopped=stopped)
    pools = {"busy": pool_of(frontier), "stopped": pool_of(frontier)}
    assert ShareBudget(pools).decide(observation).pools["busy"].awake == (frontier.full,) * 2


def test_the_loop_reconciles_each_pool_and_lowers_the_draw_first(frontier: Frontier) -> None:
    observation = together(
        1000.0, first=part_of("first", [ASLEEP, AWAKE]), second=part_of("second", [AWAKE, AWAKE])
    )
    rule = DrainRule(frontier.floor, 8.0)
    plan = Plan(
        (frontier.full,),
        500.0,
        pools={
            "first": Plan((frontier.full, frontier.full), 500.0),
            "second": Plan((), 0.0),
        },
    )
    loop = ControlLoop(
        FakeFleet.of([AWAKE], 0.0),
        ShareBudget({}),
        rule,
        TickTimes(lambda _: 0.0, 1.0, 0.0),
        {"first": rule, "second": rule},
    )
    actions = loop._actions(observation, plan)
    kinds = [type(action) for action in actions]
    assert kinds == sorted(kinds, key=[Sleep, Retune, Wake].index)
    assert {a.replica.split("-")[0] for a in actions if isinstance(a, Sleep)} == {"second"}
    assert lowering_first(observation, list(reversed(actions)))[0] in actions[:2]
