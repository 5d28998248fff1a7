"""Memory around a pure policy: the bounds of a plan that looks a day ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steppe.control.ahead import Ahead, HorizonPlan, HorizonTerms
from steppe.control.horizon import plan_horizon
from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy import SPARE_SHARE, BoundedPolicy
from steppe.control.state import Observation, ReplicaState

Foresight = Callable[[float, float, float], Sequence[tuple[float, float]]]
"""From now, horizon and step, s, to `(time, budget)` pairs, s and W: `PowerBudget.forecast`."""


@dataclass(frozen=True, slots=True)
class DayAhead:
    """Looks ahead with a forecast of the budget and the demand as it is now.

    The budget of the forecast already holds what its battery offers, so `terms` needs none
    where the budget has one.

    Attributes:
        terms: What does not change.
        forecast: Forecast of the budget for the GPUs.
        steps: How many steps to look ahead.
        low_share: What is counted on: a share of the forecast, its lower quantile.
    """

    terms: HorizonTerms
    forecast: Foresight
    steps: int
    low_share: float

    def look(self, seen: Observation, share: float) -> HorizonPlan:
        """Return the plan if so large a share of the forecast comes true."""
        step_s = self.terms.step_s
        coming = self.forecast(seen.now_s, (self.steps - 0.5) * step_s, step_s)
        full_tps = self.terms.replicas * self.terms.frontier.full.output_tps
        wanted_tps = min(full_tps, seen.demand_tps * (1 + SPARE_SHARE))
        ahead = Ahead(
            supply_w=[share * budget_w for _, budget_w in coming],
            demand_tps=[full_tps if seen.work_waits else wanted_tps]
            + [wanted_tps] * (len(coming) - 1),
            awake=seen.count(ReplicaState.AWAKE),
        )
        return plan_horizon(self.terms, ahead)


@dataclass(slots=True)
class Planned:
    """Keeps the number of awake replicas within what the plan of the horizon says.

    As many stay warm as are worth it if only the lower quantile of the supply comes, and no
    more wake than are worth it if the forecast comes true, but one at least. A look ahead also
    follows the moment at which requests begin to wait. The budget stays stronger.

    Attributes:
        inner: The policy whose number of awake replicas is bounded.
        horizon: Who looks ahead.
        every_s: Time between two looks ahead, s.
        bounds: How many replicas may be awake; None before the first look.
        deferrable_tps: Output tokens per second that work which may wait can have now.
    """

    inner: BoundedPolicy
    horizon: DayAhead
    every_s: float
    bounds: AwakeBounds | None = None
    deferrable_tps: float = 0.0
    _looked_s: float = -math.inf
    _waited: bool = False

    def decide(self, seen: Observation) -> Plan:
        """Return the inner policy's plan within the bounds of the horizon."""
        return self.inner.decide_among(seen, self._look(seen))

    def decide_among(self, seen: Observation, bounds: AwakeBounds) -> Plan:
        """Return the inner policy's plan within narrower bounds, which win."""
        horizon = self._look(seen)
        least = bounds.nearest(horizon.least)
        return self.inner.decide_among(seen, AwakeBounds(least, bounds.nearest(horizon.most)))

    def _look(self, seen: Observation) -> AwakeBounds:
        is_due = seen.now_s - self._looked_s >= self.every_s
        if self.bounds is None or is_due or (seen.work_waits and not self._waited):
            low = self.horizon.look(seen, self.horizon.low_share)
            likely = self.horizon.look(seen, 1.0)
            least = low.bounds.least
            self.bounds = AwakeBounds(least, max(1, least, likely.bounds.most))
            self.deferrable_tps = low.deferred_tps[0]
            self._looked_s, self._waited = seen.now_s, seen.work_waits
        return self.bounds
