"""What other systems do to keep an SLO at the least energy, with the budget as a cap.

They know what we know: the same points for the lengths of the traffic, the measured latency, the
same feedback and margin. Neither system has a budget of its own, so the cap is ours: where the
watts do not cover what the rule asks for, the plan is the best that they cover.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from rival_plans import (
    WithinBudget,
    full_batch,
    kept_at,
    locked_plan,
    others_w,
    plan_of,
    points_for,
)
from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.goals import SLO_SHARE, points_now
from steppe.control.policy.length_points import LengthPoints
from steppe.control.policy.make import pipeline
from steppe.control.policy.policy import PoolFacts
from steppe.control.state import Observation
from steppe.frontier.at_lengths import LatencyLimits
from steppe.frontier.mix import best_mix
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

REPLICAS_S, CLOCKS_S = 1800.0, 5.0
"""Time between two choices of the replicas and of their clocks in DynamoLLM, s of the day."""


@dataclass(frozen=True, slots=True)
class SloProfile:
    """The largest load of a replica that keeps the SLO, by clock.

    It comes from this project's queueing approximation, so that the rivals know the tails as well
    as we do.

    Attributes:
        limits: The SLO.
        at_lengths: Gives the sustained points; None if the costs of a step are not known.
    """

    limits: LatencyLimits
    at_lengths: LengthPoints | None

    @classmethod
    def of(cls, pool: PoolFacts) -> SloProfile:
        """Return the profile of a pool."""
        limits = LatencyLimits(pool.ttft_s, pool.tpot_s)
        return cls(limits, LengthPoints.of(pool.frontier, limits))

    def most_tps(self, observation: Observation) -> dict[int, float]:
        """Return the output under the largest load of each clock that keeps the SLO, tokens/s.

        Empty if it is not known, or no clock keeps it.
        """
        found = points_now(self.at_lengths, observation)
        return {} if found is None else {p.clock_mhz: p.output_tps for p in found.at_full}


class DynamoLLM:
    """Replicas and one clock for all, by the least energy that keeps the SLO for the load.

    DynamoLLM (arXiv 2408.00741) profiles energy and latency over load, lengths and clock. A cluster
    manager chooses the instances for the peak of the load once every 30 minutes, and an instance
    manager the clock once every 5 seconds. When a queue builds up, the clock goes to the highest.
    The choice of tensor parallelism is left out, because the fleet has one. The paper predicts the
    peak from earlier days; this takes that of the last period. Periods are scaled with the day.
    The cap acts at once: it takes the clock, and the number of replicas, with the most tokens.
    """

    def __init__(self, pool: PoolFacts) -> None:
        """Take the profile, and the periods in seconds of the run."""
        profile = SloProfile.of(pool)
        goal = DynamoGoal(pool.frontier, profile, pool.control.utilisation, pool.replicas)
        self._goal = goal
        self._pipeline = pipeline(pool, goal)
        self._replicas_s, self._clocks_s = (s / pool.speedup for s in (REPLICAS_S, CLOCKS_S))
        self._chosen_s = self._tuned_s = -math.inf
        self._peak_tps = 0.0

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        now_s = observation.now_s
        self._peak_tps = max(self._peak_tps, observation.demand_tps)
        if now_s - self._chosen_s >= self._replicas_s:
            replicas = self._goal.replicas_for(observation, self._peak_tps)
            self._goal = replace(self._goal, replicas=replicas)
            self._chosen_s, self._peak_tps = now_s, observation.demand_tps
        if now_s - self._tuned_s >= self._clocks_s:
            self._goal = replace(self._goal, clock_mhz=self._goal.clock_for(observation))
            self._tuned_s = now_s
        self._pipeline.goal = self._goal
        return self._pipeline.decide(observation)


@dataclass(frozen=True, slots=True)
class DynamoGoal:
    """A number of replicas at a clock, as far as the watts cover them.

    Attributes:
        frontier: Operating points of one replica.
        profile: What keeps the SLO.
        utilisation: Most of a point's output that the load may take, share, where its tails are not
            known.
        replicas: Replicas that were chosen for the load.
        clock_mhz: Clock that was chosen for the load, MHz; None before the first choice.
    """

    frontier: Frontier
    profile: SloProfile
    utilisation: float
    replicas: int
    clock_mhz: int | None = None

    def replicas_for(self, observation: Observation, load_tps: float) -> int:
        """Return the number that serves a load at the least energy; all if none keeps the SLO."""
        points, fleet = points_for(self.frontier, observation), len(observation.replicas)
        if observation.work_waits:
            return fleet
        best, best_w = fleet, math.inf
        for replicas in range(1, fleet + 1):
            point = self._cheapest(points, observation, load_tps / replicas)
            if point is not None:
                draw_w = replicas * point.draw_w + (fleet - replicas) * points.asleep_w
                best, best_w = (replicas, draw_w) if draw_w < best_w else (best, best_w)
        return best

    def clock_for(self, observation: Observation) -> int:
        """Return the clock that serves the load at the least energy; the highest if none does."""
        points = points_for(self.frontier, observation)
        highest_mhz = full_batch(points).full.clock_mhz
        if observation.work_waits or is_late(observation):
            return highest_mhz
        serving = max(1, min(self.replicas, observation.counts.awake))
        point = self._cheapest(points, observation, observation.demand_tps / serving)
        return highest_mhz if point is None else point.clock_mhz

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the plan; where the watts do not cover it, that with the most tokens."""
        points = points_for(self.frontier, observation)
        most = bounds.nearest(self.replicas)
        clock_mhz = self._affordable_mhz(points, observation, usable_w, most)
        return locked_plan(
            points, clock_mhz, observation, usable_w, AwakeBounds(min(bounds.least, most), most)
        )

    def _affordable_mhz(
        self, points: Frontier, observation: Observation, usable_w: float, most: int
    ) -> int:
        """Return the wanted clock, or the lower one at which fewer replicas give more tokens."""
        usable, asleep_w = observation.counts.usable, points.asleep_w
        room_w = max(0.0, usable_w - others_w(points, observation) - usable * asleep_w)
        kept = full_batch(kept_at(points, self.profile.limits.tpot_s)).points
        limit_mhz = self.clock_mhz or kept[-1].clock_mhz
        allowed = [p for p in kept if p.clock_mhz <= limit_mhz] or [kept[0]]

        def tokens(point: OperatingPoint) -> float:
            return point.output_tps * min(most, room_w // (point.draw_w - asleep_w))

        wanted = allowed[-1]
        covers_all = most * (wanted.draw_w - asleep_w) <= room_w
        return wanted.clock_mhz if covers_all else max(allowed, key=tokens).clock_mhz

    def _cheapest(
        self, points: Frontier, observation: Observation, load_tps: float
    ) -> OperatingPoint | None:
        """Return the point with the least draw for the load of one replica that keeps the SLO.

        A point with a small batch limit stands for a replica that decodes as few sequences.
        """
        most_tps = self.profile.most_tps(observation)
        most_s = SLO_SHARE * self.profile.limits.tpot_s
        least_tps = load_tps if most_tps else load_tps / self.utilisation
        able = (
            point
            for point in points.candidates
            if point.output_tps >= least_tps
            and point.tpot_s <= most_s
            and is_sustained(most_tps, point.clock_mhz, load_tps)
        )
        return min(able, key=lambda point: point.draw_w, default=None)


class SloDvfs(WithinBudget):
    """Every replica awake with a full batch, at the lowest clock that is predicted to keep the SLO.

    The rule of VoltanaLLM's EcoFreq (arXiv 2509.04827, `freq_manager.py` of its repository): when
    requests wait, the highest clock; otherwise the lowest at which the predicted time per token, at
    the present batch and lengths, is within the SLO. throttLL'eM (arXiv 2408.05235) searches the
    clock likewise. Once every control period, because clocks may change once a second. The
    budget is a cap on the clocks: the best mix of those up to the wanted one. Below the lowest
    clock of every replica the fleet draws too much. Requests are spread evenly, so that one clock
    fits all replicas.
    """

    def __init__(self, pool: PoolFacts) -> None:
        """Take the points and the SLO."""
        super().__init__(pool, SloDvfsGoal(pool.frontier, SloProfile.of(pool)))


@dataclass(frozen=True, slots=True)
class SloDvfsGoal:
    """The lowest clock that keeps the SLO, for every replica, as far as the watts cover it.

    Attributes:
        frontier: Operating points of one replica.
        profile: What keeps the SLO.
    """

    frontier: Frontier
    profile: SloProfile

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the plan; all replicas are awake whatever the bounds."""
        points, usable = points_for(self.frontier, observation), observation.counts.usable
        allowed = up_to(points, self._wanted_mhz(points, observation))
        mix = best_mix(allowed, usable, usable_w - others_w(points, observation))
        mix = (allowed.floor,) * usable if mix is None else mix
        return plan_of(points, observation, usable_w, mix)

    def _wanted_mhz(self, points: Frontier, observation: Observation) -> int:
        clocks_mhz = [point.clock_mhz for point in full_batch(points).points]
        if observation.work_waits or is_late(observation):
            return max(clocks_mhz)
        serving = max(1, observation.counts.awake)
        load_tps, most_tps = observation.demand_tps / serving, self.profile.most_tps(observation)
        sequences = math.ceil(observation.outstanding / serving)
        most_s = SLO_SHARE * self.profile.limits.tpot_s
        able = (
            mhz
            for mhz in clocks_mhz
            if predicted_tpot_s(points, mhz, sequences) <= most_s
            and is_sustained(most_tps, mhz, load_tps)
        )
        return min(able, default=max(clocks_mhz))


def is_sustained(most_tps: Mapping[int, float], clock_mhz: int, load_tps: float) -> bool:
    """Return whether a clock keeps the SLO under a load; yes where that is not known."""
    return not most_tps or most_tps.get(clock_mhz, 0.0) >= load_tps


def is_late(observation: Observation) -> bool:
    """Return whether a request waits for its first token for longer than the SLO."""
    return observation.latency is not None and observation.latency.overdue > 0


@lru_cache(256)
def up_to(frontier: Frontier, clock_mhz: int) -> Frontier:
    """Return the full-batch points with clocks up to one, MHz; cached."""
    points = [point for point in full_batch(frontier).points if point.clock_mhz <= clock_mhz]
    return Frontier.of(points, frontier.asleep_w, frontier.idle_w, frontier.source)


@lru_cache(4096)
def predicted_tpot_s(frontier: Frontier, clock_mhz: int, sequences: int) -> float:
    """Return the time per output token at a clock with so many sequences in the batch, s.

    That of the point with the next larger batch limit at this clock; of the largest beyond it.
    """
    points = sorted(
        (point for point in frontier.candidates if point.clock_mhz == clock_mhz),
        key=lambda point: point.batch_limit,
    )
    limits = [point.batch_limit for point in points]
    return points[min(bisect_left(limits, sequences), len(points) - 1)].tpot_s
