"""Memory around a pure policy: the bounds of a plan that looks a day ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from steppe.control.horizon.inputs import Deferrable, HorizonInputs, HorizonPlan, HorizonTerms
from steppe.control.horizon.solve import plan_horizon
from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.draw_feedback import LEAST_STEP
from steppe.control.policy.policies import SPARE_SHARE, BoundedPolicy
from steppe.control.state import DeferrableWork, Observation, ReplicaState

Foresight = Callable[[float, float, float], Sequence[tuple[float, float]]]
"""From now, horizon and step, s, to `(time, budget)` pairs, s and W: `PowerBudget.forecast`."""
SOON_S = 2.0
"""A cut so soon is reckoned with now, s: what the battery does holds for a tick at least."""
ONE_ROOM = 1.1
"""A replica needs so many times its least draw of a budget, for a margin of it is left free."""


@dataclass(frozen=True, slots=True)
class HorizonForecast:
    """Looks ahead with a forecast of the budget and the demand as it is now.

    Deferrable work comes as fast as now, and may wait for the patience of the terms; of what
    waits already, as much is due in each step of that time.

    Attributes:
        terms: What does not change.
        forecast: Forecast of the budget for the GPUs, without the battery of the terms.
        steps: How many steps to look ahead.
        low_share: What is counted on: a share of the forecast, its lower quantile.
        stored_j: Returns the energy in the battery now, J.
    """

    terms: HorizonTerms
    forecast: Foresight
    steps: int
    low_share: float
    stored_j: Callable[[], float] = float

    def present_w(self, now_s: float) -> float:
        """Return what can be counted on now: no more than what there will be soon, W."""
        return min(budget_w for _, budget_w in self.forecast(now_s, 1.5 * SOON_S, SOON_S))

    def look(self, observation: Observation, share: float) -> HorizonPlan:
        """Return the plan if so large a share of the forecast comes true."""
        step_s = self.terms.step_s
        coming = self.forecast(observation.now_s, (self.steps - 0.5) * step_s, step_s)
        supply_w = [self.present_w(observation.now_s), *(budget_w for _, budget_w in coming[1:])]
        full_tps = self.terms.replicas * self.terms.frontier.full.output_tps
        firm_tps = max(0.0, observation.demand_tps - observation.deferrable.tps)
        wanted_tps = min(full_tps, firm_tps * (1 + SPARE_SHARE))
        ahead = HorizonInputs(
            supply_w=[share * budget_w for budget_w in supply_w],
            demand_tps=[full_tps if observation.firm_work_waits else wanted_tps]
            + [wanted_tps] * (len(coming) - 1),
            work=self._work(observation.deferrable, len(coming)),
            awake=observation.count(ReplicaState.AWAKE),
            stored_j=self.stored_j(),
        )
        return plan_horizon(self.terms, ahead)

    def _work(self, observation: DeferrableWork, steps: int) -> list[Deferrable]:
        """Return the deferrable work that waits, and that will come."""
        step_s = self.terms.step_s
        patience = min(steps, max(1, round(self.terms.patience_s / step_s)))
        waits = [Deferrable(step, observation.tokens / patience) for step in range(patience)]
        comes_tokens = observation.tps * step_s
        comes = [Deferrable(step + patience - 1, comes_tokens, step) for step in range(steps)]
        return waits + comes


@dataclass(slots=True)
class HorizonBounds(BoundedPolicy):
    """Keeps the number of awake replicas, and the battery, to what the plan of the horizon says.

    As many stay warm as are worth it if only the lower quantile of the supply comes, unless work
    waits: then none of them idles, and fewer may get more out of the same watts. No
    more wake than are worth it if the forecast comes true, but one at least; any number may
    where waking costs nothing. A look ahead also follows the moment at which requests begin to
    wait, and a step of the forecast's present: nothing is charged with watts that are gone. The
    budget stays stronger. The battery does what is best if the forecast comes true.

    Attributes:
        inner: The policy whose number of awake replicas is bounded.
        horizon: Who looks ahead.
        every_s: Time between two looks ahead, s.
        bounds: How many replicas may be awake; None before the first look.
        battery_w: What the battery gives, W; takes, below 0; None where there is none.
    """

    inner: BoundedPolicy
    horizon: HorizonForecast
    every_s: float
    bounds: AwakeBounds | None = None
    battery_w: float | None = None
    _looked_s: float = -math.inf
    _waited: bool = False
    _checked_s: float = -math.inf
    _present_w: float = 0.0

    def decide_among(self, observation: Observation, bounds: AwakeBounds) -> Plan:
        """Return the inner plan within the bounds of the horizon; narrower ones win."""
        horizon = self._look(observation)
        least = bounds.nearest(0 if observation.firm_work_waits else horizon.least)
        narrowed = AwakeBounds(least, bounds.nearest(horizon.most))
        return replace(self.inner.decide_among(observation, narrowed), battery_w=self.battery_w)

    def _look(self, observation: Observation) -> AwakeBounds:
        if self.bounds is None or self._is_due(observation):
            likely = self.horizon.look(observation, 1.0)
            self.bounds = self._bounds(observation, likely)
            if self.horizon.terms.battery.capacity_j > 0:
                self.battery_w = self._battery_w(observation, likely)
            self._looked_s, self._waited = observation.now_s, observation.firm_work_waits
            self._present_w = self.horizon.present_w(observation.now_s)
        return self.bounds

    def _battery_w(self, observation: Observation, likely: HorizonPlan) -> float:
        """Return what the battery gives, W: enough for a whole replica, nothing for a part of one.

        The plan knows parts of replicas; watts that wake nobody would never be drawn.
        """
        given_w, terms = likely.discharge_w[0] - likely.charge_w[0], self.horizon.terms
        one_w = ONE_ROOM * (terms.frontier.floor.draw_w - terms.frontier.asleep_w)
        awake_w = (
            self.horizon.present_w(observation.now_s) - terms.replicas * terms.frontier.asleep_w
        )
        if not observation.firm_work_waits or given_w <= 0 or awake_w + given_w >= one_w:
            return given_w
        most_w = terms.battery.gives_w(self.horizon.stored_j(), self.every_s)
        return one_w - awake_w if one_w - awake_w <= most_w else 0.0

    def _is_due(self, observation: Observation) -> bool:
        if observation.now_s == self._checked_s:
            return False  # asked again within a tick
        self._checked_s = observation.now_s
        begins_to_wait = observation.firm_work_waits and not self._waited
        change_w = abs(self.horizon.present_w(observation.now_s) - self._present_w)
        stepped = change_w > LEAST_STEP * self._present_w
        return observation.now_s - self._looked_s >= self.every_s or begins_to_wait or stepped

    def _bounds(self, observation: Observation, likely: HorizonPlan) -> AwakeBounds:
        if self.horizon.terms.wake_j == 0:
            return AwakeBounds(0, self.horizon.terms.replicas)
        least = self.horizon.look(observation, self.horizon.low_share).bounds.least
        return AwakeBounds(least, max(1, least, likely.bounds.most))
