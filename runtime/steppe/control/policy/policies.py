"""Policies: from what is observation to what is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.planner import Goal, Need, Planner
from steppe.control.state import Observation, ReplicaState
from steppe.errors import InfeasibleError
from steppe.frontier.pareto import Frontier

SPARE_SHARE = 0.25
"""Capacity kept above the demand while nothing waits, share of the demand."""
SLO_SHARE = 0.9
"""Where joules are to be saved, a point must keep this share of the SLO: requests spread around
its mean."""


class Policy(Protocol):
    """Chooses a plan."""

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        ...


class BoundedPolicy(Policy, Protocol):
    """Chooses a plan with more or fewer awake replicas than it would by itself."""

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        return self.decide_among(observation, AwakeBounds(0, len(observation.replicas)))

    def decide_among(self, observation: Observation, bounds: AwakeBounds) -> Plan:
        """Return the best plan whose number of awake replicas is in bounds, if one fits."""
        ...


@dataclass(frozen=True, slots=True)
class FollowBudget(BoundedPolicy):
    """Serve as many tokens as the budget buys, and no more than are asked for.

    While requests wait, the plan with the most tokens within the budget; otherwise the plan
    with the least draw that covers the demand with some to spare, and has room in its batches
    for every request that runs, so that none is held. Keeps no memory.

    Attributes:
        frontier: Operating points of one replica; those that keep the SLO, if any does.
        drain_w: Draw of a replica that drains, W.
    """

    frontier: Frontier
    drain_w: float

    def decide_among(self, observation: Observation, bounds: AwakeBounds) -> Plan:
        """Return the best plan whose number of awake replicas is in bounds, if one fits."""
        need = Need(observation.demand_tps * (1 + SPARE_SHARE), observation.outstanding)
        goal = Goal(None if observation.work_waits else need, bounds)
        return Planner(self.frontier, self.drain_w).plan(observation, goal)


@dataclass(frozen=True, slots=True)
class SaveEnergy(BoundedPolicy):
    """Serve what is asked for at the least joules that keep the SLO; the budget is a ceiling.

    Only points whose time per output token keeps the SLO are used, and no more than a share of
    their output, so that a request finds a place soon after it comes. Requests that wait count
    as demand for places, so a queue raises the plan no further than it takes to seat it. While
    some are frozen inside sleeping replicas, these wake first. Keeps no memory.

    Attributes:
        frontier: Operating points that keep the SLO, from `at_slo`.
        drain_w: Draw of a replica that drains, W.
        utilisation: Most of a point's output that the demand may take, share.
    """

    frontier: Frontier
    drain_w: float
    utilisation: float

    def decide_among(self, observation: Observation, bounds: AwakeBounds) -> Plan:
        """Return the best plan whose number of awake replicas is in bounds, if one fits."""
        need = Need(
            observation.demand_tps / self.utilisation, observation.outstanding + observation.waiting
        )
        goal = (
            Goal(need, bounds)
            if not observation.frozen
            else Goal(None, _with_frozen(observation, bounds))
        )
        return Planner(self.frontier, self.drain_w).plan(observation, goal)


def _with_frozen(observation: Observation, bounds: AwakeBounds) -> AwakeBounds:
    """Return the bounds with no more awake than are, and those that hold frozen requests."""
    asleep = (replica for replica in observation.replicas if replica.state == ReplicaState.ASLEEP)
    wake = sum(replica.outstanding > 0 for replica in asleep)
    most = min(bounds.most, observation.count(ReplicaState.AWAKE) + wake)
    return AwakeBounds(bounds.least, max(bounds.least, most))


def at_slo_if_any(frontier: Frontier, tpot_s: float) -> Frontier:
    """Return the frontier of the points that keep an SLO, and all points where none does."""
    try:
        return at_slo(frontier, tpot_s)
    except InfeasibleError:
        return frontier


def at_slo(frontier: Frontier, tpot_s: float, share: float = 1.0) -> Frontier:
    """Return the frontier of the points that keep an SLO; unmeasured times count as kept.

    Args:
        frontier: All operating points.
        tpot_s: Longest time per output token, s.
        share: How much of that time a point may take.

    Raises:
        InfeasibleError: No point keeps it.
    """
    kept = [point for point in frontier.candidates if point.tpot_s <= share * tpot_s]
    if not kept:
        fastest_s = min(point.tpot_s for point in frontier.candidates)
        of_slo = "" if share == 1 else f" ({share:.3g} of an SLO of {tpot_s:.3g} s)"
        raise InfeasibleError(
            f"asked for {share * tpot_s:.3g} s per output token{of_slo}, "
            f"found {fastest_s:.3g} s at the fastest point"
        )
    return Frontier.of(kept, frontier.asleep_w, frontier.idle_w, frontier.source)
