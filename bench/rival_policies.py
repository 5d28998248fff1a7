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

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.goals import Goal, at_slo_if_any
from steppe.control.policy.make import pipeline
from steppe.control.policy.planner import Planner, PlanTarget
from steppe.control.policy.policy import PoolFacts
from steppe.control.policy.scale_down import ScaleDownMemory, delay_scale_down
from steppe.control.state import Observation
from steppe.frontier.mix import Mix, best_mix
from steppe.frontier.pareto import Frontier

NAMEPLATE_W, LEAST_CAP_W = 700.0, 200.0
"""Power limit of an H100 SXM: the largest from its data sheet, the least as commonly reported."""
TARGET_SHARE = 0.8
"""Target requests of a replica under `Reactive`, share of its batch limit."""


class WithinBudget:
    """A goal with our feedback, margin and scale-down delay around it."""

    def __init__(self, pool: PoolFacts, goal: Goal) -> None:
        """Put the stages around a goal."""
        self._pipeline = pipeline(pool, goal)

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        return self._pipeline.decide(observation)


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
        super().__init__(pool, ClocksAndReplicasGoal(at_slo_if_any(pool.frontier, pool.tpot_s)))


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
        fit = observation.gpu_budget_w / self._nameplate_w
        awake = math.floor(min(observation.counts.usable, fit))
        mix = (self._frontier.full,) * awake
        return plan_of(self._frontier, observation, observation.gpu_budget_w, mix)


class Reactive:
    """Full clocks; as many replicas as the requests need, whatever the budget.

    The rule of Ray Serve and KEDA: replicas = ceil(requests / target requests per replica), where
    requests are those that wait and those that run. At least one replica stays awake.
    """

    def __init__(self, pool: PoolFacts, target_share: float = TARGET_SHARE) -> None:
        """Take the full point and the scale-down delay of the `control` section."""
        self._goal = ReactiveGoal(pool.frontier, target_share)
        self._dwell_s = pool.control.dwell_s
        self._memory = ScaleDownMemory()

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""

        def choose(bounds: AwakeBounds) -> Plan:
            return self._goal.best_plan(observation, observation.gpu_budget_w, bounds)

        plan, self._memory = delay_scale_down(observation, choose, self._memory, self._dwell_s)
        return plan


@dataclass(frozen=True, slots=True)
class PowerCapGoal:
    """The fastest full-batch point within an equal power limit, for every replica."""

    frontier: Frontier
    least_cap_w: float

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the plan; all replicas are awake whatever the bounds."""
        usable = observation.counts.usable
        room_w = usable_w - others_w(self.frontier, observation)
        cap_w = max(self.least_cap_w, room_w / max(1, usable))
        batch = self.frontier.full_batch
        within = [point for point in batch.points if point.draw_w <= cap_w]
        mix = (within[-1] if within else batch.floor,) * usable
        return plan_of(self.frontier, observation, usable_w, mix)


@dataclass(frozen=True, slots=True)
class ClocksGoal:
    """The best mix of clocks with full batches, for every replica."""

    frontier: Frontier

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the plan; all replicas are awake whatever the bounds."""
        usable, batch = observation.counts.usable, self.frontier.full_batch
        mix = best_mix(batch, usable, usable_w - others_w(self.frontier, observation))
        mix = (batch.floor,) * usable if mix is None else mix
        return plan_of(self.frontier, observation, usable_w, mix)


@dataclass(frozen=True, slots=True)
class ReplicasGoal:
    """As many replicas at the full point as the watts cover."""

    frontier: Frontier

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the plan whose number of awake replicas is in bounds, if the watts cover it."""
        full, asleep_w = self.frontier.full, self.frontier.asleep_w
        usable = observation.counts.usable
        room_w = usable_w - others_w(self.frontier, observation) - usable * asleep_w
        affordable = math.floor(max(0.0, min(usable, room_w / (full.draw_w - asleep_w))))
        awake = min(affordable, bounds.nearest(affordable))
        return plan_of(self.frontier, observation, usable_w, (full,) * awake)


@dataclass(frozen=True, slots=True)
class ClocksAndReplicasGoal:
    """The plan with the most tokens among those with full batches."""

    frontier: Frontier

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the best plan whose number of awake replicas is in bounds, if one fits."""
        batch = self.frontier.full_batch
        planner = Planner(batch, batch.floor.draw_w)
        return planner.plan(observation, usable_w, PlanTarget(None, bounds))


@dataclass(frozen=True, slots=True)
class ReactiveGoal:
    """As many replicas at the full point as the requests need.

    Attributes:
        frontier: Operating points of one replica.
        target_share: Target requests of a replica, share of its batch limit.
    """

    frontier: Frontier
    target_share: float

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the plan whose number of awake replicas is in bounds."""
        full = self.frontier.full
        requests = observation.waiting + observation.outstanding
        needed = max(1, math.ceil(requests / (self.target_share * full.batch_limit)))
        awake = min(observation.counts.usable, bounds.nearest(needed))
        return plan_of(self.frontier, observation, usable_w, (full,) * awake)


def others_w(frontier: Frontier, observation: Observation) -> float:
    """Return the draw of the replicas that cannot serve, W; leaving ones drain."""
    return Planner(frontier, frontier.drain.draw_w).others_w(observation, may_drain=True)


def plan_of(frontier: Frontier, observation: Observation, usable_w: float, awake: Mix) -> Plan:
    """Return the plan with these replicas awake; those that leave may finish."""
    counts, besides_w = observation.counts, others_w(frontier, observation)
    draining = counts.draining + max(0, counts.awake - len(awake))
    draw_w = sum(point.draw_w for point in awake) + besides_w
    draw_w += (counts.usable - len(awake)) * frontier.asleep_w
    feasible = counts.usable * frontier.asleep_w + besides_w <= usable_w
    return Plan(awake, draw_w, draining, feasible)
