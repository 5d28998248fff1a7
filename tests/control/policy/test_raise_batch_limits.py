from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steppe.control.plan import Plan
from steppe.control.policy.policies import FollowBudget
from steppe.control.policy.raise_batch_limits import RaiseBatchLimits
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

AWAKE = ReplicaState.AWAKE
POINTS = (
    OperatingPoint(600, 2, 10.0, 40.0),
    OperatingPoint(600, 8, 20.0, 50.0),
    OperatingPoint(900, 16, 40.0, 90.0),
)
FRONTIER = Frontier(POINTS, asleep_w=16.0, idle_w=20.0, source="modelled")


@dataclass
class Fixed:
    plan: Plan

    def decide(self, observation: Observation) -> Plan:
        return self.plan


def loosened(fleets: Any, budget_w: float, *points: OperatingPoint) -> Plan:
    plan = Plan(points, sum(point.draw_w for point in points), draining=1)
    observation = fleets.of([AWAKE] * len(points), budget_w).observation
    return RaiseBatchLimits(Fixed(plan), FRONTIER).decide(observation)


def test_batch_limits_are_as_large_as_the_clocks_and_the_budget_allow(fleets: Any) -> None:
    small, large, full = POINTS
    assert loosened(fleets, 200.0, full, small).awake == (full, large)
    assert loosened(fleets, 95.0, small, small) == Plan((large, small), 90.0, draining=1)
    assert loosened(fleets, 80.0, small, small).awake == (small, small)


def test_a_plan_that_no_budget_holds_stays_as_it_is(fleets: Any) -> None:
    assert loosened(fleets, 0.0, POINTS[0]) == Plan((POINTS[0],), 40.0, draining=1)


def test_a_limit_is_never_tightened_nor_a_point_lost_that_others_beat(fleets: Any) -> None:
    wide, quick = OperatingPoint(600, 64, 15.0, 60.0), OperatingPoint(1200, 4, 20.0, 60.0)
    assert loosened(fleets, 200.0, wide, quick).awake == (wide, quick)


def test_who_draws_most_once_limits_are_loosened_comes_first(fleets: Any) -> None:
    small, large, _ = POINTS
    quick = OperatingPoint(1200, 4, 20.0, 45.0)
    assert loosened(fleets, 200.0, quick, small).awake == (large, quick)


@given(budget_w=st.floats(0, 400), waiting=st.integers(0, 1), replicas=st.integers(1, 5))
def test_a_loosened_plan_keeps_the_budget_the_clocks_and_the_order(
    fleets: Any, frontier: Frontier, budget_w: float, waiting: int, replicas: int
) -> None:
    observation = fleets.of([AWAKE] * replicas, budget_w, waiting).observation
    inner = FollowBudget(frontier, frontier.drain.draw_w)
    tight, loose = inner.decide(observation), RaiseBatchLimits(inner, frontier).decide(observation)
    assert loose.draw_w <= max(budget_w, tight.draw_w) + 1e-9
    assert loose.slots >= tight.slots
    assert sorted(p.clock_mhz for p in loose.awake) == sorted(p.clock_mhz for p in tight.awake)
    assert [p.draw_w for p in loose.awake] == sorted((p.draw_w for p in loose.awake), reverse=True)
