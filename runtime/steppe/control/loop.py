"""The control loop: observe, decide, reconcile, apply."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from steppe.control.plan import Plan
from steppe.control.policy.policy import Foresight, Policy
from steppe.control.reconcile import (
    Action,
    Deepen,
    Drain,
    DrainRule,
    Move,
    Retune,
    Sleep,
    Start,
    Wake,
    reconcile,
)
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.control.tick_times import TickTimes

LOOKS = 8
"""Times within a drain at which the limits ahead are looked at."""


class Fleet(Protocol):
    """What the loop needs from a fleet, real or simulated."""

    def observe(self, now_s: float) -> Observation:
        """Return the state of the fleet at `now_s`."""
        ...

    def apply(self, actions: list[Action]) -> None:
        """Carry out actions in their order; none of them waits."""
        ...


@dataclass(frozen=True, slots=True)
class ControlLoop:
    """Keeps a fleet on the plan of a policy.

    The loop never waits. Its driver calls `tick` at the times that `times` gives, live or in
    simulated time; that is the only difference between the two.

    Attributes:
        fleet: The fleet.
        policy: Chooses the plan.
        drain_rule: How a replica leaves.
        times: When to tick.
        pool_rules: How a replica of each pool leaves, by name; empty where there is only one pool.
        limits: The limits of the GPUs' power ahead, W; None if none are known ahead.
    """

    fleet: Fleet
    policy: Policy
    drain_rule: DrainRule
    times: TickTimes
    pool_rules: Mapping[str, DrainRule] = field(default_factory=dict)
    limits: Foresight | None = None

    def tick(self, now_s: float) -> Plan:
        """Move the fleet one step and return the plan in force.

        If a known fall of the budget comes before another tick could follow it, the plan keeps to
        the lower budget. In the second before a known step, clocks are not moved, because a clock
        limit changes at most once a second; at a step they are.

        The policy also knows the lowest limit within the time of a drain, so that replicas that a
        fall puts to sleep can finish their requests before.

        Args:
            now_s: Time since the run began, s.
        """
        observation = self.fleet.observe(now_s)
        fall_w = self.times.fall_w(now_s)
        lowest_w = max(0.0, observation.gpu_budget_w - fall_w)
        known = observation.with_budget(lowest_w).with_limit_ahead(self._lowest_ahead_w(now_s))
        plan = self.policy.decide(known)
        actions = self._actions(observation, plan)
        if fall_w == 0 and self.times.holds_clocks(now_s):
            actions = without_clock_moves(observation, actions)
        self.fleet.apply(actions)
        return plan

    def _lowest_ahead_w(self, now_s: float) -> float:
        """Return the lowest limit within the time of a drain, W; infinite if none is known."""
        ahead_s = self.drain_rule.longest_s
        if self.limits is None or ahead_s <= 0:
            return math.inf
        coming = self.limits(now_s, ahead_s, ahead_s / LOOKS)
        return min((watts for _, watts in coming), default=math.inf)

    def _actions(self, observation: Observation, plan: Plan) -> list[Action]:
        """Return the actions that lead to a plan, those that lower the draw first."""
        if not observation.pools:
            return reconcile(observation, plan, self.drain_rule)
        return lowering_first(
            observation,
            [
                action
                for name, part in observation.pools.items()
                for action in reconcile(part, plan.pools[name], self.pool_rules[name])
            ],
        )


def lowering_first(observation: Observation, actions: list[Action]) -> list[Action]:
    """Return the actions of several pools in the order in which one pool has them."""
    found = {replica.id: replica for replica in observation.replicas}

    def order(action: Action) -> int:
        match action:
            case Sleep():
                return 0
            case Drain(name) if found[name].state != ReplicaState.ASLEEP:
                return 1
            case Deepen():
                return 2
            case Retune(name, clock_mhz, batch_limit):
                before = (found[name].clock_mhz, found[name].batch_limit)
                return 3 if (clock_mhz, batch_limit) < before else 4
            case Drain() | Wake():
                return 5
            case Start() | Move():
                return 6

    return sorted(actions, key=order)


def without_clock_moves(observation: Observation, actions: list[Action]) -> list[Action]:
    """Return the actions without those that move the clock limit of a serving replica.

    If one of them was a cut, no other replica may draw more in its place.
    """
    serving = {r.id: r for r in observation.replicas if r.state == ReplicaState.AWAKE}
    moves_mhz = {
        action.replica: action.clock_mhz - serving[action.replica].clock_mhz
        for action in actions
        if isinstance(action, Retune) and action.replica in serving
    }
    cuts = any(move_mhz < 0 for move_mhz in moves_mhz.values())
    return [
        action
        for action in actions
        if not moves_mhz.get(action.replica, 0) and not (cuts and _raises(serving, action))
    ]


def _raises(serving: Mapping[str, ReplicaObservation], action: Action) -> bool:
    """Return whether an action that moves no clock makes a replica draw more."""
    match action:
        case Wake():
            return True
        case Drain(name):
            return name not in serving
        case Retune(name, _, batch_limit):
            return name not in serving or batch_limit > serving[name].batch_limit
        case _:
            return False
