"""Several models on one budget: each pool gets the watts that give the most value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from steppe.control.plan import Plan
from steppe.control.policy.goals import SPARE_SHARE
from steppe.control.policy.planner import Planner
from steppe.control.policy.policy import Policy
from steppe.control.state import Observation
from steppe.frontier.group import ReplicaGroup, TokenDemand
from steppe.frontier.mix import best_counts
from steppe.frontier.pareto import Frontier


@dataclass(frozen=True, slots=True)
class Pool:
    """The replicas of one model.

    Attributes:
        name: The model's name.
        frontier: Operating points of one of its replicas.
        drain_w: Draw of a replica that drains, W.
        values: Value of an output token by priority class, in any unit that all pools share.
    """

    name: str
    frontier: Frontier
    drain_w: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """A pool at one instant.

    Attributes:
        pool: The pool.
        observation: Its replicas and its demand; the budget in it is not read.
        demand_tps: Demand by priority class, output tokens per second.
    """

    pool: Pool
    observation: Observation
    demand_tps: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The budget of a pool, and its plan.

    Attributes:
        name: The pool's name.
        pool_budget_w: Its share of the GPUs' budget, W.
        plan: Its plan within this share.
    """

    name: str
    pool_budget_w: float
    plan: Plan


@dataclass(frozen=True, slots=True)
class ShareBudget:
    """Divides the budget among pools by the value of their tokens, then plans each pool.

    The division is the best plan for all pools together, so each pool's own policy finds a plan at
    least as good in its share. Watts that no pool can turn into tokens are divided by the number of
    replicas; they let replicas drain.

    Attributes:
        policies: The policy of each pool, by its name.
    """

    policies: Mapping[str, Policy]

    def decide(self, gpu_budget_w: float, pools: Sequence[PoolObservation]) -> tuple[PoolPlan, ...]:
        """Return a plan for each pool; together they draw no more than `gpu_budget_w`.

        Args:
            gpu_budget_w: Watts for the replicas of all pools.
            pools: The pools.
        """
        return tuple(
            PoolPlan(
                one.pool.name,
                share_w,
                self.policies[one.pool.name].decide(one.observation.with_budget(share_w)),
            )
            for one, share_w in zip(pools, shares_w(gpu_budget_w, pools), strict=True)
        )


def shares_w(gpu_budget_w: float, pools: Sequence[PoolObservation]) -> list[float]:
    """Return the budget of each pool, W; below the floors, in proportion to them."""
    tallies = [one.observation.counts for one in pools]
    others_w = [
        Planner(one.pool.frontier, one.pool.drain_w).others_w(one.observation, may_drain=True)
        for one in pools
    ]
    groups = [
        ReplicaGroup.awake_or_asleep(one.pool.frontier, counts.usable, demands(one))
        for one, counts in zip(pools, tallies, strict=True)
    ]
    counts = best_counts(groups, gpu_budget_w - sum(others_w))
    if counts is None:
        floors_w = [other_w + g.least_w for other_w, g in zip(others_w, groups, strict=True)]
        return [max(0.0, gpu_budget_w) * floor_w / sum(floors_w) for floor_w in floors_w]
    drawn_w = [
        other_w + g.draw_w(c) for other_w, g, c in zip(others_w, groups, counts, strict=True)
    ]
    replicas = [len(one.observation.replicas) for one in pools]
    spare_w = (gpu_budget_w - sum(drawn_w)) / max(1, sum(replicas))
    return [draw_w + n * spare_w for draw_w, n in zip(drawn_w, replicas, strict=True)]


def demands(one: PoolObservation) -> Iterator[TokenDemand]:
    """Yield the demand of a pool by falling value, with some capacity to spare.

    While requests wait, the demand at the least value has no limit; otherwise the last demand
    makes room for the running requests.
    """
    full = one.pool.frontier.full
    values = sorted(one.pool.values.items(), key=lambda pair: -pair[1])
    demanded_tps = 0.0
    for priority, value in values:
        more_tps = one.demand_tps.get(priority, 0.0) * (1 + SPARE_SHARE)
        demanded_tps += more_tps
        yield TokenDemand(value, more_tps)
    running_tps = one.observation.outstanding * full.output_tps / full.batch_limit
    left_tps = math.inf if one.observation.work_waits else max(0.0, running_tps - demanded_tps)
    yield TokenDemand(values[-1][1], left_tps)
