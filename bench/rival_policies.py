"""What other systems do about power, as policies to compare with: `control.policy` names them.

    policy: rival_policies:Replicas

None of them moves the batch limit: their points are those with the largest batch limit. Where the
compared system turns a replica off, the plan lets it sleep. A draining replica counts as gone. The
ones that keep their draw to the budget get our feedback and margin, so that only the choice of the
plan is compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rival_plans import WithinBudget, full_batch, kept_at, others_w, plan_of, points_for
from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.planner import Planner, PlanTarget
from steppe.control.policy.policy import PoolFacts
from steppe.control.state import Observation
from steppe.frontier.mix import best_mix
from steppe.frontier.pareto import Frontier

NAMEPLATE_W, LEAST_CAP_W = 700.0, 200.0
"""Power limit of an H100 SXM: the largest from its data sheet, the least as commonly reported."""


class PowerCap(WithinBudget):
    """Every replica awake with a full batch, under an equal board power limit for every GPU.

    What `nvidia-smi -pl` gives and GridPilot (arXiv 2605.26384) closes its loop with. A power limit
    lowers the clock until the draw fits, so the plan is the fastest full-batch point within the
    limit; that the clock comes in the steps of the frontier wastes a little of it. The limit never
    goes below the least that the board takes: at a deeper budget the fleet draws too much. What a
    replica without full load leaves of its limit goes to no other replica.
    """

    def __init__(self, pool: PoolFacts) -> None:
        """Take the points of a full batch and the boards' least limit."""
        least_cap_w = LEAST_CAP_W * pool.gpus_per_replica
        super().__init__(pool, PowerCapGoal(pool.frontier, least_cap_w))


class Clocks(WithinBudget):
    """Every replica awake with a full batch; the clocks follow the budget.

    The knob of VoltanaLLM (arXiv 2509.04827) and throttLL'eM (arXiv 2408.05235), which move it to
    keep an SLO, here with the budget as the aim: the best mix of clocks, one for each replica.
    Below the lowest clock of every replica the fleet draws too much.
    """

    def __init__(self, pool: PoolFacts) -> None:
        """Take the points of a full batch."""
        super().__init__(pool, ClocksGoal(pool.frontier))


class Replicas(WithinBudget):
    """Full clocks and batches; as many replicas awake as the budget covers.

    Horizontal scaling against measured draw, as Climatik (KEDA under a power cap) does.
    """

    def __init__(self, pool: PoolFacts) -> None:
        """Take the full point."""
        super().__init__(pool, ReplicasGoal(pool.frontier))


class ClocksAndReplicas(WithinBudget):
    """Full batches; as many replicas awake, at such clocks, as give the most tokens in the budget.

    The two knobs of DynamoLLM (arXiv 2408.00741), which moves them to keep an SLO at the least
    energy, here with the budget as the aim and with this project's own planner.
    """

    def __init__(self, pool: PoolFacts) -> None:
        """Take the points of a full batch that keep the SLO, if any does."""
        super().__init__(pool, ClocksAndReplicasGoal(pool.frontier, pool.tpot_s))


class Nameplate:
    """Full clocks; as many replicas as their nameplate watts fit into the budget.

    The rule of NVIDIA Dynamo's planner (`total_gpu_power_limit`, ai-dynamo pull request 12012):
    every replica counts with its power limit, whatever it draws. Dynamo's limit is fixed; here it
    follows the budget, which flatters the rule. What sleeping replicas draw is not part of it.
    """

    def __init__(self, pool: PoolFacts) -> None:
        """Take the full point and the boards' nameplate."""
        self._frontier = pool.frontier
        self._nameplate_w = NAMEPLATE_W * pool.gpus_per_replica

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        points = points_for(self._frontier, observation)
        fit = observation.gpu_budget_w / self._nameplate_w
        mix = (points.full,) * math.floor(min(observation.counts.usable, fit))
        return plan_of(points, observation, observation.gpu_budget_w, mix)


@dataclass(frozen=True, slots=True)
class PowerCapGoal:
    """The fastest full-batch point within an equal power limit, for every replica."""

    frontier: Frontier
    least_cap_w: float

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the plan; all replicas are awake whatever the bounds."""
        points, usable = points_for(self.frontier, observation), observation.counts.usable
        room_w = usable_w - others_w(points, observation)
        cap_w = max(self.least_cap_w, room_w / max(1, usable))
        batch = full_batch(points)
        within = [point for point in batch.points if point.draw_w <= cap_w]
        mix = (within[-1] if within else batch.floor,) * usable
        return plan_of(points, observation, usable_w, mix)


@dataclass(frozen=True, slots=True)
class ClocksGoal:
    """The best mix of clocks with full batches, for every replica."""

    frontier: Frontier

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the plan; all replicas are awake whatever the bounds."""
        points, usable = points_for(self.frontier, observation), observation.counts.usable
        batch = full_batch(points)
        mix = best_mix(batch, usable, usable_w - others_w(points, observation))
        mix = (batch.floor,) * usable if mix is None else mix
        return plan_of(points, observation, usable_w, mix)


@dataclass(frozen=True, slots=True)
class ReplicasGoal:
    """As many replicas at the full point as the watts cover."""

    frontier: Frontier

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the plan whose number of awake replicas is in bounds, if the watts cover it."""
        points, usable = points_for(self.frontier, observation), observation.counts.usable
        full, asleep_w = points.full, points.asleep_w
        room_w = usable_w - others_w(points, observation) - usable * asleep_w
        affordable = math.floor(max(0.0, min(usable, room_w / (full.draw_w - asleep_w))))
        awake = min(affordable, bounds.nearest(affordable))
        return plan_of(points, observation, usable_w, (full,) * awake)


@dataclass(frozen=True, slots=True)
class ClocksAndReplicasGoal:
    """The plan with the most tokens among those with full batches.

    Attributes:
        frontier: Operating points of one replica.
        tpot_s: Longest time per output token that a point may take, if any point keeps it, s.
    """

    frontier: Frontier
    tpot_s: float = math.inf

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the best plan whose number of awake replicas is in bounds, if one fits."""
        batch = full_batch(kept_at(points_for(self.frontier, observation), self.tpot_s))
        planner = Planner(batch, batch.floor.draw_w)
        return planner.plan(observation, usable_w, PlanTarget(None, bounds))
