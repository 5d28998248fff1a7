"""Scale-down stage: replicas stay awake for a while when they are no longer needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.state import Observation, ReplicaState

LEAST_CUT = 0.2
"""Least share of the fleet that is put to sleep at once for lack of work."""
LEAVING_SHARE = 0.015
"""Share of the fleet that drains at once for lack of work: a draining replica draws less than any
plan says."""
MOST_LOSS = 0.05
"""Most output that replicas which stay awake without need may cost, share."""
LEAST_GAIN = 0.01
"""Least gain in output, or cut of the draw, for which another replica wakes, share."""

Choose = Callable[[AwakeBounds], Plan]
"""The best plan whose number of awake replicas is in bounds, if the budget covers one."""


@dataclass(frozen=True, slots=True)
class ScaleDownMemory:
    """What the stage keeps between ticks.

    Attributes:
        needed: Times, s, and how many awake replicas the best plan then had. Only those that can
            still be the maximum of the last `dwell_s` are kept, the largest number first.
        kept: How many stay awake until a larger cut pays.
        planned: How many were awake in the last plan.
    """

    needed: tuple[tuple[float, int], ...] = ()
    kept: float = math.inf
    planned: int = 0


def delay_scale_down(
    observation: Observation, choose: Choose, memory: ScaleDownMemory, dwell_s: float
) -> tuple[Plan, ScaleDownMemory]:
    """Return the best plan, or one that keeps more replicas awake or wakes fewer.

    As many replicas stay awake as were needed at any time in the last `dwell_s`, so that a fleet
    does not flap with its load. Then they leave a few at a time, so that the draw does not dip.
    A replica wakes only for a gain. A replica that was planned and is not awake yet counts as
    awake. The budget is stronger: where it does not cover that many, fewer are awake.

    Args:
        observation: The fleet.
        choose: Returns the best plan within bounds.
        memory: What was kept at the last tick.
        dwell_s: How long a replica stays awake that is not needed, s. Fewer than `LEAST_CUT` of
            the fleet stay awake for good, unless they cost output.
    """
    best = choose(AwakeBounds(0, len(observation.replicas)))
    needed = _needed(memory.needed, observation.now_s, len(best.awake), dwell_s)
    awake = observation.count(ReplicaState.AWAKE)
    if awake:
        awake = max(awake, memory.planned)
    if not awake or len(best.awake) == awake:
        return best, ScaleDownMemory(needed, memory.kept, len(best.awake))
    if len(best.awake) > awake:
        same = choose(AwakeBounds(awake, awake))
        plan = best if _gains(best, same) else same
        return plan, ScaleDownMemory(needed, memory.kept, len(plan.awake))
    most_needed, fleet = needed[0][1], len(observation.replicas)
    kept = most_needed if awake - most_needed >= LEAST_CUT * fleet else memory.kept
    kept = max(kept, most_needed)
    may_leave = math.ceil(LEAVING_SHARE * fleet) - observation.count(ReplicaState.DRAINING)
    stay = round(min(awake, max(kept, awake - max(0, may_leave))))
    delayed = choose(AwakeBounds(stay, stay))
    plan = best if best.output_tps > delayed.output_tps * (1 + MOST_LOSS) else delayed
    return plan, ScaleDownMemory(needed, kept, len(plan.awake))


def _needed(
    needed: tuple[tuple[float, int], ...], now_s: float, awake: int, dwell_s: float
) -> tuple[tuple[float, int], ...]:
    """Return the numbers that can still be the maximum of the last `dwell_s`, with a new one."""
    recent = [pair for pair in needed if now_s - pair[0] < dwell_s and pair[1] > awake]
    return (*recent, (now_s, awake))


def _gains(plan: Plan, kept: Plan) -> bool:
    """Return whether a plan is worth waking replicas for."""
    if len(plan.awake) <= len(kept.awake):
        return False
    gives_more = plan.output_tps > kept.output_tps * (1 + LEAST_GAIN)
    return gives_more or plan.draw_w < kept.draw_w * (1 - LEAST_GAIN)
