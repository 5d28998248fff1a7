"""What the rivals have in common: their points, the stages around a goal, and their plans."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.goals import Goal, at_slo_if_any
from steppe.control.policy.make import pipeline
from steppe.control.policy.planner import Planner, PlanTarget
from steppe.control.policy.policy import PoolFacts
from steppe.control.state import Observation
from steppe.frontier.at_lengths import batch_limits
from steppe.frontier.load_table import ending_of, load_table
from steppe.frontier.mix import Mix
from steppe.frontier.pareto import Frontier
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.point import OperatingPoint
from steppe.roofline.step_costs import CostFactors

_REMEMBERED = 256


class WithinBudget:
    """A goal with our feedback, margin and scale-down delay around it."""

    def __init__(self, pool: PoolFacts, goal: Goal) -> None:
        """Put the stages around a goal."""
        self.stages = pipeline(pool, goal)

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        return self.stages.decide(observation)


def points_for(frontier: Frontier, observation: Observation) -> Frontier:
    """Return the points for the requests that come now: rivals know as much as we do.

    They follow from the same costs of a step, with what the fit has learned of them. Without costs,
    or before the requests are known, they are those of the sweep.
    """
    if frontier.costs is None or observation.lengths is None:
        return frontier
    return _points_at(frontier, observation.lengths, observation.learned.factors)


@lru_cache(_REMEMBERED)
def _points_at(frontier: Frontier, lengths: RequestLengths, factors: CostFactors) -> Frontier:
    """Return the points with full batches, of all clocks and batch limits."""
    assert frontier.costs is not None, "points for other lengths follow from the costs of a step"
    clocks_mhz = sorted({point.clock_mhz for point in frontier.candidates})
    costs = frontier.costs.at(clocks_mhz).scaled(factors)
    limits = batch_limits(frontier.largest_batch)
    # A batch limit above what tokens and cache allow would only queue prompts in the engine.
    ending, first = np.unique(ending_of(costs, lengths, limits), return_index=True)
    table = load_table(costs, lengths, ending)
    points = [
        OperatingPoint(
            clock_mhz,
            int(limits[at]),
            float(table.rate_rps[clock, load]) * lengths.output_tokens,
            float(table.draw_w[clock, load]),
            float(table.step_s[clock, load]),
        )
        for clock, clock_mhz in enumerate(clocks_mhz)
        for load, at in enumerate(first.tolist())
    ]
    return frontier.with_points(points).with_costs(frontier.costs, lengths)


@lru_cache(_REMEMBERED)
def full_batch(frontier: Frontier) -> Frontier:
    """Return the points with the largest batch limit; cached, because frontiers rarely change."""
    return frontier.full_batch


@lru_cache(_REMEMBERED)
def locked_at(frontier: Frontier, clock_mhz: int) -> Frontier:
    """Return the full-batch point whose clock is the nearest, MHz, as a frontier of its own."""
    points = full_batch(frontier).points
    point = min(points, key=lambda point: abs(point.clock_mhz - clock_mhz))
    return Frontier.of([point], frontier.asleep_w, frontier.idle_w, frontier.source)


@lru_cache(_REMEMBERED)
def kept_at(frontier: Frontier, tpot_s: float) -> Frontier:
    """Return the points that keep an SLO, or all if none does; cached."""
    return at_slo_if_any(frontier, tpot_s)


def best_lock(frontier: Frontier, tpot_s: float) -> OperatingPoint:
    """Return the full-batch point with the fewest joules per token that keeps the SLO, if any."""
    kept = kept_at(full_batch(frontier), tpot_s)
    return min(kept.points, key=lambda point: point.joules_per_token)


def locked_plan(
    frontier: Frontier,
    clock_mhz: int,
    observation: Observation,
    usable_w: float,
    bounds: AwakeBounds,
) -> Plan:
    """Return the plan with the most replicas at one clock that watts and bounds allow.

    It comes from this project's planner, which has one point to choose from: so replicas that
    drain, or sleep with requests, are treated as in our own plans.
    """
    planner = Planner(locked_at(frontier, clock_mhz), frontier.drain.draw_w)
    return planner.plan(observation, usable_w, PlanTarget(None, bounds))


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
