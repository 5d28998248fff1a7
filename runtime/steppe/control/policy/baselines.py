"""What others do about power, in the same interface: to be compared with, or chosen.

None of them feeds back the measured draw or looks at the demand unless it says so. Where the
compared system turns a replica off, the plan lets it sleep. Points of a full batch are those
with the largest batch limit of the frontier: these systems do not move the batch limit. None
counts on a replica that drains: one comes back where another would have to wake, no sooner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.planner import Goal, Planner
from steppe.control.policy.policies import BoundedPolicy
from steppe.control.state import Observation
from steppe.frontier.mix import Mix, best_mix
from steppe.frontier.pareto import Frontier


@dataclass(frozen=True, slots=True)
class FullClocks:
    """Every replica awake at the full point, whatever the budget: a fleet without power control."""

    frontier: Frontier

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        return _plan(self.frontier, observation, (self.frontier.full,) * observation.tally.usable)


@dataclass(frozen=True, slots=True)
class PowerCapOnly:
    """Every replica awake with a full batch, under an equal board power limit for every GPU.

    What `nvidia-smi -pl` gives and GridPilot (arXiv 2605.26384) closes its loop with. A power
    limit lowers the clock until the draw fits, so the plan is the fastest full-batch point
    within the limit; that the clock comes in steps of the frontier wastes a little of it. The
    limit never goes below the least that the board takes: at a deeper budget the fleet draws
    too much. A replica that is not saturated draws less than its limit, and nobody else may
    have the rest.

    Attributes:
        frontier: Operating points of one replica.
        least_cap_w: Least power limit of a replica's GPUs together, W.
    """

    frontier: Frontier
    least_cap_w: float

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        usable = observation.tally.usable
        room_w = _room_w(self.frontier, observation)
        cap_w = max(self.least_cap_w, room_w / max(1, usable))
        batch = self.frontier.full_batch
        within = [point for point in batch.points if point.draw_w <= cap_w]
        return _plan(self.frontier, observation, (within[-1] if within else batch.floor,) * usable)


@dataclass(frozen=True, slots=True)
class ClocksOnly:
    """Every replica awake with a full batch; the clocks follow the budget.

    The knob of VoltanaLLM (arXiv 2509.04827) and throttLL'eM (arXiv 2408.05235), which move it
    to keep an SLO, here with the budget as its aim: the best mix of clocks, with a clock for
    each replica. Below the lowest clock of every replica the fleet draws too much.
    """

    frontier: Frontier

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        usable = observation.tally.usable
        room_w = _room_w(self.frontier, observation)
        batch = self.frontier.full_batch
        mix = best_mix(batch, usable, room_w)
        return _plan(self.frontier, observation, (batch.floor,) * usable if mix is None else mix)


@dataclass(frozen=True, slots=True)
class ReplicasOnly(BoundedPolicy):
    """Full clocks and batches; as many replicas awake as the budget holds.

    Horizontal scaling against measured draw, as Climatik (KEDA under a power cap) does.
    """

    frontier: Frontier

    def decide_among(self, observation: Observation, bounds: AwakeBounds) -> Plan:
        """Return the plan whose number of awake replicas is in bounds, if the budget holds it."""
        full, asleep_w, usable = (
            self.frontier.full,
            self.frontier.asleep_w,
            observation.tally.usable,
        )
        room_w = _room_w(self.frontier, observation) - usable * asleep_w
        affordable = math.floor(max(0.0, min(usable, room_w / (full.draw_w - asleep_w))))
        awake = min(affordable, bounds.nearest(affordable))
        return _plan(self.frontier, observation, (full,) * awake)


@dataclass(frozen=True, slots=True)
class ClocksAndReplicas(BoundedPolicy):
    """Full batches; as many replicas awake, at such clocks, as give the most tokens in the budget.

    The two knobs of DynamoLLM (arXiv 2408.00741), which moves them to keep an SLO at the least
    energy, here with the budget as its aim and with this project's own planner.

    Attributes:
        frontier: Operating points of one replica.
    """

    frontier: Frontier

    def decide_among(self, observation: Observation, bounds: AwakeBounds) -> Plan:
        """Return the best plan whose number of awake replicas is in bounds, if one fits."""
        batch = self.frontier.full_batch
        return Planner(batch, batch.floor.draw_w).plan(observation, Goal(None, bounds))


@dataclass(frozen=True, slots=True)
class NameplateCeiling:
    """Full clocks; as many replicas as their nameplate watts fit into the budget.

    The rule of NVIDIA Dynamo's planner (`total_gpu_power_limit`, ai-dynamo pull request 12012):
    every replica counts with its power limit, whatever it draws. Dynamo's limit is fixed; here
    it follows the budget, which flatters the rule. That sleeping replicas draw something is
    not part of it.

    Attributes:
        frontier: Operating points of one replica.
        nameplate_w: Power limit of a replica's GPUs together, W.
    """

    frontier: Frontier
    nameplate_w: float

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        awake = math.floor(
            min(observation.tally.usable, observation.gpu_budget_w / self.nameplate_w)
        )
        return _plan(self.frontier, observation, (self.frontier.full,) * awake)


@dataclass(frozen=True, slots=True)
class Reactive(BoundedPolicy):
    """Full clocks; as many replicas as the requests need, whatever the budget.

    Ray Serve's and KEDA's rule: replicas = ceil(requests / target requests per replica), where
    requests are those that wait and those that run. One replica stays at least.

    Attributes:
        frontier: Operating points of one replica.
        target_share: Target requests of a replica, share of its batch limit.
    """

    frontier: Frontier
    target_share: float = 0.8

    def decide_among(self, observation: Observation, bounds: AwakeBounds) -> Plan:
        """Return the plan whose number of awake replicas is in bounds."""
        full = self.frontier.full
        requests = observation.waiting + observation.outstanding
        wanted = max(1, math.ceil(requests / (self.target_share * full.batch_limit)))
        awake = min(observation.tally.usable, bounds.nearest(wanted))
        return _plan(self.frontier, observation, (full,) * awake)


def _room_w(frontier: Frontier, observation: Observation) -> float:
    """Return what the replicas that can serve may draw together, W."""
    return observation.gpu_budget_w - _others_w(frontier, observation)


def _others_w(frontier: Frontier, observation: Observation) -> float:
    """Return the draw of the replicas that cannot serve, W; those that leave drain."""
    return Planner(frontier, frontier.drain.draw_w).others_w(observation, may_drain=True)


def _plan(frontier: Frontier, observation: Observation, awake: Mix) -> Plan:
    """Return the plan with these replicas awake; those that leave may finish."""
    tally = observation.tally
    draining = tally.draining + max(0, tally.awake - len(awake))
    others_w = _others_w(frontier, observation)
    draw_w = sum(point.draw_w for point in awake) + others_w
    draw_w += (tally.usable - len(awake)) * frontier.asleep_w
    feasible = tally.usable * frontier.asleep_w + others_w <= observation.gpu_budget_w
    return Plan(awake, draw_w, draining, feasible)
