"""The control loop: observe, decide, reconcile, apply."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from steppe.control.plan import Plan
from steppe.control.policy import Policy
from steppe.control.reconcile import Action, DrainRule, reconcile
from steppe.control.state import Observation
from steppe.control.tick_times import TickTimes


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

    The loop never waits: a driver calls `tick` at the times that it asks for, live or in
    simulated time, which is the only difference between the two.
    """

    fleet: Fleet
    policy: Policy
    drain_rule: DrainRule
    times: TickTimes

    def tick(self, now_s: float) -> Plan:
        """Move the fleet one step and return the plan in force.

        The plan keeps to what the budget will have fallen to when the fleet has followed.

        Args:
            now_s: Time since the run began, s.
        """
        seen = self.fleet.observe(now_s)
        budget_w = max(0.0, seen.budget_w - self.times.fall_w(now_s))
        plan = self.policy.decide(replace(seen, budget_w=budget_w))
        self.fleet.apply(reconcile(seen, plan, self.drain_rule))
        return plan
