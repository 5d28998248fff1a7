"""Notice stage: replicas that a known fall of a limit puts to sleep begin to drain before it.

A limit of the grid is known ahead. When it falls, clocks follow within a tick, and no stream is
moved. A deep fall puts replicas to sleep, too, and one that must sleep at once freezes its
requests. So from the time of one drain before the fall, no more replicas are awake than the plan
for the lower limit has: those that leave finish their requests on the watts that are still there.
"""

from __future__ import annotations

from dataclasses import replace

from steppe.control.state import Observation, ReplicaObservation, ReplicaState

LEAST_FALL = 0.02
"""Least fall of the budget that is prepared for, share: clocks do what is less."""


def after_fall(observation: Observation) -> Observation | None:
    """Return the fleet as it will be when the limit has fallen; None if it does not fall.

    Replicas that drain have finished by then, so they do not count against that plan.

    Args:
        observation: The fleet, its budget, and the lowest limit ahead.
    """
    lowest_w = observation.lowest_ahead_w
    if lowest_w > (1 - LEAST_FALL) * observation.gpu_budget_w:
        return None
    replicas = tuple(map(_drained, observation.replicas))
    return replace(observation, gpu_budget_w=lowest_w, replicas=replicas)


def _drained(replica: ReplicaObservation) -> ReplicaObservation:
    if replica.state != ReplicaState.DRAINING:
        return replica
    return replace(replica, state=ReplicaState.ASLEEP, outstanding=0, woke_to_drain=False)
