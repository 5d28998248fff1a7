"""Autoscalers at a clock that an operator locked beforehand, as policies to compare with.

A locked clock costs no controller at all (`nvidia-smi -lgc`), so it is the first thing to beat.
Which clock, and how full the replicas, is a parameter: a bench that knows the day tries several
and takes the best in hindsight. Without one, it is the clock with the fewest joules per token
among those that keep the SLO.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rival_plans import WithinBudget, best_lock, locked_at, locked_plan, plan_of, points_for
from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.policy import PoolFacts
from steppe.control.policy.scale_down import ScaleDownMemory, delay_scale_down
from steppe.control.state import Observation
from steppe.frontier.pareto import Frontier

TARGET_SHARE = 0.8
"""Target requests of a replica, share of its batch limit."""


class StaticClockReplicas(WithinBudget):
    """One clock for all and full batches; as many replicas awake as the budget covers.

    Climatik's horizontal scaling (KEDA under a power cap) on GPUs whose clock was locked. What is
    left of the budget below one more replica stays unused.
    """

    def __init__(self, pool: PoolFacts, clock_mhz: int | None = None) -> None:
        """Lock a clock, MHz; the best one by the points if None."""
        super().__init__(pool, StaticClockGoal(pool.frontier, lock_of(pool, clock_mhz)))


class Reactive:
    """Full clocks; as many replicas as the requests need, whatever the budget.

    The rule of Ray Serve and KEDA: replicas = ceil(requests / target requests per replica), where
    requests are those that wait and those that run. At least one replica stays awake.
    """

    def __init__(
        self, pool: PoolFacts, target_share: float = TARGET_SHARE, clock_mhz: int | None = None
    ) -> None:
        """Take the clock, MHz (the highest if None), and the scale-down delay of the pool."""
        clock_mhz = pool.frontier.full.clock_mhz if clock_mhz is None else clock_mhz
        self._goal = ReactiveGoal(pool.frontier, target_share, clock_mhz)
        self._dwell_s = pool.control.dwell_s
        self._memory = ScaleDownMemory()

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""

        def choose(bounds: AwakeBounds) -> Plan:
            return self._goal.best_plan(observation, observation.gpu_budget_w, bounds)

        plan, self._memory = delay_scale_down(observation, choose, self._memory, self._dwell_s)
        return plan


class ClockLockedAutoscaler(Reactive):
    """The same on GPUs whose clock was locked."""

    def __init__(
        self, pool: PoolFacts, clock_mhz: int | None = None, target_share: float = TARGET_SHARE
    ) -> None:
        """Lock a clock, MHz; the best one by the points if None."""
        super().__init__(pool, target_share, lock_of(pool, clock_mhz))


class CappedAutoscaler(WithinBudget):
    """The same with the budget as a cap: never more replicas than it covers."""

    def __init__(
        self, pool: PoolFacts, clock_mhz: int | None = None, target_share: float = TARGET_SHARE
    ) -> None:
        """Lock a clock, MHz; the best one by the points if None."""
        lock_mhz = lock_of(pool, clock_mhz)
        super().__init__(pool, CappedGoal(pool.frontier, target_share, lock_mhz))


@dataclass(frozen=True, slots=True)
class StaticClockGoal:
    """As many replicas at a locked clock as the watts cover.

    Attributes:
        frontier: Operating points of one replica.
        clock_mhz: The locked clock, MHz.
    """

    frontier: Frontier
    clock_mhz: int

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the plan whose number of awake replicas is in bounds, if the watts cover it."""
        points = points_for(self.frontier, observation)
        return locked_plan(points, self.clock_mhz, observation, usable_w, bounds)


@dataclass(frozen=True, slots=True)
class ReactiveGoal:
    """As many replicas at a locked clock as the requests need.

    Attributes:
        frontier: Operating points of one replica.
        target_share: Target requests of a replica, share of its batch limit.
        clock_mhz: The locked clock, MHz.
    """

    frontier: Frontier
    target_share: float
    clock_mhz: int

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the plan whose number of awake replicas is in bounds."""
        points = points_for(self.frontier, observation)
        point = locked_at(points, self.clock_mhz).full
        needed = needed_for(observation, self.target_share * point.batch_limit)
        awake = min(observation.counts.usable, bounds.nearest(needed))
        return plan_of(points, observation, usable_w, (point,) * awake)


@dataclass(frozen=True, slots=True)
class CappedGoal:
    """As many replicas at a locked clock as the requests need and the watts cover.

    Attributes:
        frontier: Operating points of one replica.
        target_share: Target requests of a replica, share of its batch limit.
        clock_mhz: The locked clock, MHz.
    """

    frontier: Frontier
    target_share: float
    clock_mhz: int

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the plan whose number of awake replicas is in bounds, if the watts cover it."""
        points = points_for(self.frontier, observation)
        point = locked_at(points, self.clock_mhz).full
        awake = bounds.nearest(needed_for(observation, self.target_share * point.batch_limit))
        exactly = AwakeBounds(awake, awake)
        return locked_plan(points, self.clock_mhz, observation, usable_w, exactly)


def needed_for(observation: Observation, target_requests: float) -> int:
    """Return the replicas that the requests need, at least one, at so many requests for each."""
    requests = observation.waiting + observation.outstanding
    return max(1, math.ceil(requests / target_requests))


def lock_of(pool: PoolFacts, clock_mhz: int | None) -> int:
    """Return the clock to lock, MHz: the best one by the points if none is given."""
    return best_lock(pool.frontier, pool.tpot_s).clock_mhz if clock_mhz is None else clock_mhz
