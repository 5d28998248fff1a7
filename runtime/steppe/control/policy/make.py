"""From the configuration to a policy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from steppe.control.horizon.battery import HorizonForecast
from steppe.control.horizon.inputs import HorizonTerms
from steppe.control.plan import Plan
from steppe.control.policy.feedback import FeedbackSettings
from steppe.control.policy.free_clocks import CountFreeClocks
from steppe.control.policy.goals import (
    SLO_SHARE,
    FollowBudget,
    Goal,
    SaveEnergy,
    at_slo,
    at_slo_if_any,
)
from steppe.control.policy.keep_awake import SLEEP_AND_WAKE_S, KeepAwakeSettings
from steppe.control.policy.length_points import LengthPoints
from steppe.control.policy.pipeline import PolicyPipeline
from steppe.control.policy.policy import CheckedPolicy, Policy, PoolFacts, load_policy
from steppe.control.policy.rows_only import PointsForRows
from steppe.control.policy.sleep_need import DepthSettings
from steppe.control.sleep_ladder import SleepLadder
from steppe.control.state import Observation
from steppe.frontier.at_lengths import LatencyLimits
from steppe.frontier.pareto import Frontier


def make_policy(pool: PoolFacts) -> Policy:
    """Return the policy that `control.policy` names.

    Raises:
        InfeasibleError: No operating point keeps the SLO of `save_energy`.
        ConfigError: A class of one's own cannot be loaded.
    """
    frontier, control = pool.frontier, pool.control
    drain_w = frontier.drain.draw_w
    match control.policy:
        case "follow_budget":
            kept = at_slo_if_any(frontier, pool.tpot_s)
            return _complete(pool, lambda f, at: FollowBudget(f, drain_w, at), kept)
        case "save_energy":
            kept = at_slo(frontier, pool.tpot_s, SLO_SHARE)
            return _complete(
                pool, lambda f, at: SaveEnergy(f, drain_w, control.utilisation, at), kept
            )
        case "full_clocks":
            return FullClocks(frontier)
        case name:
            return CheckedPolicy(load_policy(name)(pool), name)


def pipeline(
    pool: PoolFacts, goal: Goal, *, wake_j: float = 0.0, horizon: HorizonForecast | None = None
) -> PolicyPipeline:
    """Return the stages around a goal, with the settings of the `control` section.

    Args:
        pool: What the policy is given.
        goal: What the best plan is.
        wake_j: Energy to put a replica to sleep and wake it, J; 0 to let the last one sleep.
        horizon: Plans the day for the battery, if any.
    """
    frontier, control = pool.frontier, pool.control
    feedback = FeedbackSettings(
        frontier.asleep_w, frontier.floor.draw_w, control.margin_share, control.over_share
    )
    keep_awake = KeepAwakeSettings(frontier.floor, frontier.asleep_w, wake_j)
    return PolicyPipeline(goal, feedback, keep_awake, control.dwell_s, frontier.costs, horizon)


@dataclass(frozen=True, slots=True)
class FullClocks:
    """Every replica awake at the full point, whatever the budget: no power control."""

    frontier: Frontier

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        counts, full = observation.counts, self.frontier.full
        coming_w = counts.coming * self.frontier.idle_w
        awake = (full,) * counts.usable
        return Plan(awake, len(awake) * full.draw_w + coming_w, counts.draining)


GoalOf = Callable[[Frontier, LengthPoints | None], Goal]
"""Makes a goal from the points that keep the SLO, and those for the requests that come now."""


def _complete(pool: PoolFacts, goal_of: GoalOf, kept: Frontier) -> PolicyPipeline:
    """Return the stages with all that the configuration asks for."""
    wake_j = pool.control.wake_j
    if wake_j is None:
        wake_j = SLEEP_AND_WAKE_S * pool.frontier.idle_w
    of_points = goal_of(kept, _at_lengths(pool, pool.frontier))
    if kept is not pool.frontier and kept != pool.frontier:
        without_slo = replace(pool, ttft_s=math.inf, tpot_s=math.inf)
        of_rows = goal_of(pool.frontier, _at_lengths(without_slo, pool.frontier))
        of_points = PointsForRows(of_points, of_rows)
    goal = CountFreeClocks(of_points, pool.frontier)
    stages = pipeline(pool, goal, wake_j=wake_j, horizon=_horizon(pool, kept))
    stages.depths = depths_of(pool, goal_of, kept)
    stages.keeps_to_limits = pool.control.power_limits and pool.control.sleep_for_limits
    return stages


def _at_lengths(pool: PoolFacts, frontier: Frontier) -> LengthPoints | None:
    return LengthPoints.of(frontier, LatencyLimits(pool.ttft_s, pool.tpot_s))


def depths_of(pool: PoolFacts, goal_of: GoalOf, kept: Frontier) -> DepthSettings | None:
    """Return how replicas sleep deeper than a pause; None if they do not."""
    ladder = pool.ladder
    if ladder is None:
        return None
    deep_w = ladder.deepest.net_w
    frontier = replace(pool.frontier, asleep_w=deep_w)
    goal = goal_of(replace(kept, asleep_w=deep_w), _at_lengths(pool, frontier))
    forecast = pool.forecast if pool.control.sleep_by_forecast else None
    return DepthSettings(ladder, goal, pool.control.margin_share, forecast)


def with_ladder(policy: Policy, ladder: SleepLadder | None) -> None:
    """Let a policy plan with other times of its depths from now on; it keeps what it has learned.

    A class of one's own keeps the times that it was made with.
    """
    if isinstance(policy, PolicyPipeline) and policy.depths is not None and ladder is not None:
        policy.depths = replace(policy.depths, ladder=ladder)


def _horizon(pool: PoolFacts, kept: Frontier) -> HorizonForecast | None:
    """Return the plan of the day, in steps of run time; None where none is configured."""
    section, store = pool.control.horizon, pool.store
    if section is None or store is None:
        return None
    terms = HorizonTerms(
        frontier=kept,
        replicas=pool.replicas,
        step_s=section.step_s / pool.speedup,
        battery=store.battery,
        patience_s=pool.max_wait_s,
    )
    every_s = max(pool.control.period_s, section.every_s / pool.speedup)
    return HorizonForecast(terms, store.forecast, section.steps, every_s, store.stored_j)
