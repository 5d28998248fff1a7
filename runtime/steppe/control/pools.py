"""Several pools on one budget: each gets the watts that give the most value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from steppe.control.plan import Plan
from steppe.control.policy.goals import SPARE_SHARE
from steppe.control.policy.planner import Planner
from steppe.control.policy.policy import Policy
from steppe.control.state import Observation
from steppe.frontier.group import ReplicaGroup, TokenDemand
from steppe.frontier.mix import best_counts
from steppe.frontier.pareto import Frontier

DEFERRABLE_VALUE = 0.25
"""Value of an output token that may wait, in those of the same model that may not."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The replicas of one model on one kind of GPU.

    Attributes:
        frontier: Operating points of one of its replicas.
        drain_w: Draw of a replica that drains, W.
        policy: Chooses the plan within its share of the budget.
        value: Value of an output token, in any unit that all pools share.
    """

    frontier: Frontier
    drain_w: float
    policy: Policy
    value: float = 1.0


@dataclass(frozen=True, slots=True)
class ShareBudget:
    """A policy that divides the budget among pools by the value of their tokens.

    The division is the best plan for all pools together, so each pool's own policy finds a plan at
    least as good in its share. Watts that no pool can turn into tokens are divided by the number of
    replicas; they let replicas drain.

    Attributes:
        pools: The pools, by name.
    """

    pools: Mapping[str, Pool]

    def decide(self, observation: Observation) -> Plan:
        """Return a plan with one for each pool; they draw no more than the budget together."""
        parts = observation.pools
        pools = [(self.pools[name], part) for name, part in parts.items()]
        shares = shares_w(observation.gpu_budget_w, pools)
        ahead_w = [math.inf] * len(pools)
        if observation.lowest_ahead_w < observation.gpu_budget_w:
            ahead_w = shares_w(observation.lowest_ahead_w, pools)
        plans = {}
        for name, share_w, lowest_w in zip(parts, shares, ahead_w, strict=True):
            part = parts[name].with_budget(share_w).with_limit_ahead(lowest_w)
            plans[name] = replace(self.pools[name].policy.decide(part), share_w=share_w)
        return joined(plans)


def joined(plans: Mapping[str, Plan]) -> Plan:
    """Return the plan of all pools together."""
    points = [point for plan in plans.values() for point in plan.awake]
    return Plan(
        awake=tuple(sorted(points, key=lambda point: -point.draw_w)),
        draw_w=sum(plan.draw_w for plan in plans.values()),
        draining=sum(plan.draining for plan in plans.values()),
        feasible=all(plan.feasible for plan in plans.values()),
        holds=any(plan.holds for plan in plans.values()),
        deepen=tuple(pair for plan in plans.values() for pair in plan.deepen),
        restore=tuple(replica for plan in plans.values() for replica in plan.restore),
        pools=plans,
    )


def shares_w(gpu_budget_w: float, pools: Sequence[tuple[Pool, Observation]]) -> list[float]:
    """Return the budget of each pool, W; below the floors, in proportion to them."""
    others_w = [
        Planner(pool.frontier, pool.drain_w).others_w(part, may_drain=True) for pool, part in pools
    ]
    groups = [
        ReplicaGroup.awake_or_asleep(
            _with_floor(pool.frontier, part), part.counts.usable, demands(pool, part)
        )
        for pool, part in pools
    ]
    counts = best_counts(groups, gpu_budget_w - sum(others_w))
    if counts is None:
        floors_w = [other_w + g.least_w for other_w, g in zip(others_w, groups, strict=True)]
        return [max(0.0, gpu_budget_w) * floor_w / sum(floors_w) for floor_w in floors_w]
    drawn_w = [
        other_w + g.draw_w(c) for other_w, g, c in zip(others_w, groups, counts, strict=True)
    ]
    replicas = [len(part.replicas) for _, part in pools]
    spare_w = (gpu_budget_w - sum(drawn_w)) / max(1, sum(replicas))
    return [draw_w + n * spare_w for draw_w, n in zip(drawn_w, replicas, strict=True)]


def _with_floor(frontier: Frontier, part: Observation) -> Frontier:
    """Return the frontier with the draw of its sleepers if all of them sleep deep.

    Otherwise a pool that was scaled to zero would be given the watts of a pause for nothing.
    """
    usable = [r for r in part.replicas if r.is_deep]
    if not usable or len(usable) < part.counts.usable:
        return frontier
    return replace(frontier, asleep_w=sum(r.deep_w for r in usable) / len(usable))


def demands(pool: Pool, part: Observation) -> Iterator[TokenDemand]:
    """Yield the demand of a pool by falling value, with some capacity to spare.

    While requests wait, the demand at the least value has no limit; otherwise the last demand
    makes room for the running requests.
    """
    full, later_tps = pool.frontier.full, min(part.deferrable.tps, part.demand_tps)
    firm_tps = (part.demand_tps - later_tps) * (1 + SPARE_SHARE)
    if part.firm_work_waits:
        firm_tps = math.inf
    yield TokenDemand(pool.value, firm_tps)
    later_tps *= 1 + SPARE_SHARE
    running_tps = part.outstanding * full.output_tps / full.batch_limit
    left_tps = max(later_tps, running_tps - firm_tps, 0.0)
    yield TokenDemand(
        DEFERRABLE_VALUE * pool.value, math.inf if part.deferrable.waiting else left_tps
    )
