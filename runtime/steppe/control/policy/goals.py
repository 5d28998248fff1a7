"""What the best plan is: the most tokens within the watts, or the least energy that serves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.length_points import LengthPoints
from steppe.control.policy.planner import Need, Planner, PlanTarget
from steppe.control.state import Observation, ReplicaState
from steppe.errors import InfeasibleError
from steppe.frontier.at_lengths import PointsAtLengths
from steppe.frontier.pareto import Frontier

SPARE_SHARE = 0.25
"""Capacity kept above the demand while no request waits, share of the demand."""
SLO_SHARE = 0.9
"""Share of the SLO that a point of `save_energy` may take: requests spread around its mean."""


STAYING_GAIN, MOVING_GAIN = 0.06, 0.02
"""Least gain in output of smaller batches over full ones, share. The first holds where full ones
keep the number of awake replicas, the second where they change it, so that a budget that jitters
around the watts where both are equal wakes no replica."""
_REMEMBERED = 16


class Goal(Protocol):
    """Chooses the best plan; keeps no memory, for it is called several times a tick."""

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the best plan.

        Args:
            observation: The fleet; its budget is not read.
            usable_w: Watts that the plan may use, W.
            bounds: How many replicas may be awake, if the watts cover that many.
        """
        ...


def decide(goal: Goal, observation: Observation) -> Plan:
    """Return the best plan for the whole budget, without any memory."""
    everything = AwakeBounds(0, len(observation.replicas))
    return goal.best_plan(observation, observation.gpu_budget_w, everything)


@dataclass(frozen=True, slots=True)
class FollowBudget:
    """Serve as many tokens as the watts allow, and no more than the demand.

    While requests wait: the plan with the most tokens, with full batches unless smaller ones give
    clearly more. A batch limit that falls holds requests back and lowers the draw for seconds; one
    that rises admits a burst of prompts; clocks and sleep do neither. Otherwise: the plan with the
    least draw that covers the demand with some to spare and has a place in its batches for every
    running request, so that none is held.

    Attributes:
        frontier: Operating points of one replica; those that keep the SLO, if any does.
        drain_w: Draw of a replica that drains, W.
        at_lengths: Gives the points for the requests that come now; None to keep the points.
    """

    frontier: Frontier
    drain_w: float
    at_lengths: LengthPoints | None = None

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the best plan for these watts within bounds."""
        points = points_now(self.at_lengths, observation)
        frontier = self.frontier if points is None else points.full
        planner = Planner(frontier, self.drain_w, points)
        if not observation.work_waits and not observation.learned.at_ceiling:
            spare = SPARE_SHARE + observation.learned.reserve
            need = Need(observation.demand_tps * (1 + spare), observation.outstanding)
            return planner.plan(observation, usable_w, PlanTarget(need, bounds))
        most = PlanTarget(None, bounds)
        plan = planner.plan(observation, usable_w, most)
        full = Planner(largest_batches(frontier), self.drain_w).plan(observation, usable_w, most)
        stays = len(full.awake) == observation.count(ReplicaState.AWAKE)
        gain = STAYING_GAIN if stays else MOVING_GAIN
        is_as_good = full.output_tps >= plan.output_tps * (1 - gain)
        plan = full if full.awake and full.feasible and is_as_good else plan
        return plan if points is None else replace(plan, holds=_needs_hold(frontier, plan))

    def decide(self, observation: Observation) -> Plan:
        """Return the best plan for the whole budget."""
        return decide(self, observation)


@dataclass(frozen=True, slots=True)
class SaveEnergy:
    """Serve the demand at the least energy that keeps the SLO; the budget is a ceiling.

    Only points whose time per output token keeps the SLO are used, and no more than a share of
    their output, so that a new request soon finds a place. Waiting requests count as demand for
    places, so a queue raises the plan no further than their number requires. Sleeping replicas
    that hold requests wake first.

    Attributes:
        frontier: Operating points that keep the SLO, from `at_slo`.
        drain_w: Draw of a replica that drains, W.
        utilisation: Most of a point's output that the demand may take, share.
        at_lengths: Gives the points for the requests that come now; None to keep the points.
    """

    frontier: Frontier
    drain_w: float
    utilisation: float
    at_lengths: LengthPoints | None = None

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the best plan for these watts within bounds."""
        points = points_now(self.at_lengths, observation)
        frontier = self.frontier if points is None else points.full
        slots = observation.outstanding + observation.waiting
        needed_tps = observation.demand_tps / self.utilisation * (1 + observation.learned.reserve)
        target = PlanTarget(Need(needed_tps, slots), bounds)
        if observation.learned.at_ceiling:
            target = PlanTarget(None, bounds)
        elif observation.frozen:
            target = PlanTarget(None, _with_frozen(observation, bounds))
        return Planner(frontier, self.drain_w, points).plan(observation, usable_w, target)

    def decide(self, observation: Observation) -> Plan:
        """Return the best plan for the whole budget."""
        return decide(self, observation)


def points_now(at_lengths: LengthPoints | None, observation: Observation) -> PointsAtLengths | None:
    """Return the points for the requests that come now; None if they are not known."""
    return None if at_lengths is None else at_lengths.now(observation)


def _needs_hold(frontier: Frontier, plan: Plan) -> bool:
    """Return whether a plan lowers the draw by its batches: it has no lower clock to go to.

    Elsewhere the clocks lower the draw at once. There, a batch limit that falls keeps the time per
    token of the requests that come; those that run would lose more by being held.
    """
    lowest_mhz = min(point.clock_mhz for point in frontier.candidates)
    return any(point.clock_mhz <= lowest_mhz for point in plan.awake)


@lru_cache(_REMEMBERED)
def largest_batches(frontier: Frontier) -> Frontier:
    """Return the frontier of the points with the largest batch limit of each clock."""
    by_batch = sorted(frontier.candidates, key=lambda point: point.batch_limit)
    points = {point.clock_mhz: point for point in by_batch}
    return frontier.with_points(points.values())


def _with_frozen(observation: Observation, bounds: AwakeBounds) -> AwakeBounds:
    """Return bounds that wake only the replicas that hold frozen requests."""
    asleep = (r for r in observation.replicas if r.state == ReplicaState.ASLEEP)
    wake = sum(replica.outstanding > 0 for replica in asleep)
    most = min(bounds.most, observation.count(ReplicaState.AWAKE) + wake)
    return AwakeBounds(bounds.least, max(bounds.least, most))


def at_slo_if_any(frontier: Frontier, tpot_s: float) -> Frontier:
    """Return the frontier of the points that keep an SLO, or of all points if none does."""
    try:
        return at_slo(frontier, tpot_s)
    except InfeasibleError:
        return frontier


def at_slo(frontier: Frontier, tpot_s: float, share: float = 1.0) -> Frontier:
    """Return the frontier of the points that keep an SLO; unmeasured times count as kept.

    Args:
        frontier: All operating points.
        tpot_s: Longest time per output token, s.
        share: Share of that time that a point may take.

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
    return frontier.with_points(kept)
