"""While only rows of a batch are served, joules choose the points."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.batch_work import BatchWork
from steppe.control.policy.goals import FollowBudget, decide
from steppe.control.policy.rows_only import PointsForRows, serves_rows_only
from steppe.control.state import DeferrableWork, Observation, ReplicaState
from steppe.frontier.pareto import Frontier

JOB = BatchWork("j", "t", "m", 1000, 0, 1e6)


@pytest.fixture
def rows_only() -> Observation:
    found = FakeFleet.of([ReplicaState.AWAKE] * 4, 200.0, waiting=9).observation
    rows = DeferrableWork(100.0, 9, 900.0, running=found.outstanding)
    return replace(found, demand_tps=100.0, deferrable=rows, batch=(JOB,))


def test_other_requests_end_the_use_of_slow_points(rows_only: Observation) -> None:
    assert serves_rows_only(rows_only)
    assert not serves_rows_only(replace(rows_only, batch=()))
    assert not serves_rows_only(replace(rows_only, waiting=10))
    assert not serves_rows_only(replace(rows_only, demand_tps=120.0))
    fewer = replace(rows_only.deferrable, running=rows_only.outstanding - 1)
    assert not serves_rows_only(replace(rows_only, deferrable=fewer))


def test_rows_alone_get_points_with_more_tokens_per_joule(
    frontier: Frontier, rows_only: Observation
) -> None:
    small = frontier.with_points([p for p in frontier.candidates if p.batch_limit <= 4])
    goal = PointsForRows(FollowBudget(small, 30.0), FollowBudget(frontier, 30.0))
    alone = decide(goal, rows_only)
    mixed = decide(goal, replace(rows_only, waiting=10))
    assert alone.output_tps / alone.draw_w > 1.2 * mixed.output_tps / mixed.draw_w
    assert max(point.batch_limit for point in mixed.awake) <= 4
