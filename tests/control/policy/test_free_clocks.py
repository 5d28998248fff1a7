from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.free_clocks import CountFreeClocks
from steppe.control.policy.goals import FollowBudget
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

POINTS = [
    OperatingPoint(clock_mhz, batch, batch * clock_mhz / 100, base_w + batch)
    for clock_mhz, base_w in ((600, 90.0), (1200, 130.0), (1800, 330.0))
    for batch in (8, 32)
]
FRONTIER = Frontier.of(POINTS, asleep_w=50.0, idle_w=70.0, source="modelled")
GOAL = CountFreeClocks(FollowBudget(FRONTIER, FRONTIER.drain.draw_w), FRONTIER)


def fleet_of(free: list[bool]) -> Observation:
    replicas = tuple(
        ReplicaObservation(
            f"replica-{number}", ReplicaState.AWAKE, 0.0, 600, 8, 4, clock_is_free=is_free
        )
        for number, is_free in enumerate(free)
    )
    return Observation(0.0, 0.0, None, 1e6, 10, replicas)


def best_plan(free: list[bool], usable_w: float, goal: CountFreeClocks = GOAL) -> Plan:
    return goal.best_plan(fleet_of(free), usable_w, AwakeBounds(0, len(free)))


def worst_draw_w(plan: Plan, free: list[bool]) -> float:
    """Return the most that a plan draws: replicas at the highest clock may get any point."""
    at_highest = {p.batch_limit: p.draw_w for p in POINTS if p.clock_mhz == 1800}
    more_w = sorted((at_highest[p.batch_limit] - p.draw_w for p in plan.awake), reverse=True)
    asleep_w = (len(free) - len(plan.awake)) * FRONTIER.asleep_w
    return asleep_w + sum(p.draw_w for p in plan.awake) + sum(more_w[: sum(free)])


def test_a_fleet_whose_clocks_can_all_be_limited_is_planned_as_before() -> None:
    free = [False] * 6
    assert best_plan(free, 700.0) == GOAL.goal.best_plan(
        fleet_of(free), 700.0, AwakeBounds(0, len(free))
    )


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.floats(0, 2500))
def test_a_plan_fits_the_watts_with_what_replicas_without_a_clock_limit_really_draw(
    free: list[bool], usable_w: float
) -> None:
    plan = best_plan(free, usable_w)
    if plan.awake:
        assert worst_draw_w(plan, free) <= usable_w + 1e-6
        assert plan.draw_w >= worst_draw_w(plan, free) - 1e-6, "the feedback compares with it"


def test_one_replica_without_a_clock_limit_leaves_the_others_their_clocks() -> None:
    one = [True, *[False] * 7]
    for usable_w in (1000.0, 1300.0, 1600.0):
        mixed = best_plan(one, usable_w)
        most_w = FRONTIER.full.draw_w - FRONTIER.floor.draw_w
        assert mixed.output_tps >= best_plan([False] * 8, usable_w - most_w).output_tps
        assert min(point.clock_mhz for point in mixed.awake) < 1800


def test_points_for_other_lengths_draw_more_by_the_share_of_the_known_ones() -> None:
    (known,) = [p for p in FRONTIER.candidates if (p.clock_mhz, p.batch_limit) == (1200, 32)]
    doubled = replace(known, draw_w=2 * known.draw_w)
    full_w = FRONTIER.full.draw_w
    more_w = full_w - known.draw_w
    assert GOAL.more_w(Plan((known,), 0.0, 0), 1) == pytest.approx(more_w)
    assert GOAL.more_w(Plan((doubled,), 0.0, 0), 1) == pytest.approx(2 * more_w)
