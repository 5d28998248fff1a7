"""While a pool serves rows of a batch only, joules choose its points, and no latency does."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.goals import Goal
from steppe.control.state import Observation

LEAST_SHARE = 1e-3
"""Firm demand below this share of all demand is none: it was estimated from the last seconds."""


@dataclass(frozen=True, slots=True)
class PointsForRows:
    """A goal with other points while only rows of a batch are asked for.

    Rows have no SLO for the time per token, so batches may be larger then, and cost fewer joules a
    token. With the first other request the points keep the SLO again.

    Attributes:
        firm: The goal with points that keep the SLO.
        rows: The goal with all points.
    """

    firm: Goal
    rows: Goal

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        """Return the best plan for these watts within bounds."""
        goal = self.rows if serves_rows_only(observation) else self.firm
        return goal.best_plan(observation, usable_w, bounds)


def serves_rows_only(observation: Observation) -> bool:
    """Whether every request that is asked for, waits or runs is a row of a batch."""
    rows = observation.deferrable
    if not observation.batch or not rows.running + rows.waiting:
        return False
    is_firm = observation.demand_tps - rows.tps > LEAST_SHARE * observation.demand_tps
    runs = observation.outstanding > rows.running
    return not is_firm and not runs and observation.waiting <= rows.waiting
