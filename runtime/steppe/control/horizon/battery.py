"""Battery stage: what the battery gives or takes, by the first step of a plan of the day."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from steppe.control.horizon.inputs import Deferrable, HorizonInputs, HorizonPlan, HorizonTerms
from steppe.control.horizon.solve import plan_horizon
from steppe.control.policy.goals import SPARE_SHARE
from steppe.control.policy.policy import Foresight
from steppe.control.state import DeferrableWork, Observation

SOON_S = 2.0
"""A cut this soon counts as now, s: the battery keeps its power for a tick at least."""
ONE_ROOM = 1.1
"""Budget for one replica over its least draw: a margin of it is left free."""
STEP_SHARE = 0.1
"""A change of the budget by more than this share is a reason to plan again."""


@dataclass(frozen=True, slots=True)
class HorizonForecast:
    """Plans the day with a forecast of the budget; the demand stays as it is now.

    Deferrable work arrives as fast as now and may wait for the patience of the terms. Of what
    waits already, the same amount is due in each step of that time.

    Attributes:
        terms: What does not change during a run.
        forecast: Forecast of the GPUs' budget without the battery of the terms.
        steps: Number of steps to plan.
        every_s: Time between two plans, s.
        stored_j: Returns the energy in the battery now, J.
    """

    terms: HorizonTerms
    forecast: Foresight
    steps: int
    every_s: float
    stored_j: Callable[[], float] = float

    def present_w(self, now_s: float) -> float:
        """Return the budget now, or soon if that is less, W."""
        return min(budget_w for _, budget_w in self.forecast(now_s, 1.5 * SOON_S, SOON_S))

    def plan(self, observation: Observation) -> HorizonPlan:
        """Return the best plan if the forecast comes true."""
        step_s = self.terms.step_s
        coming = self.forecast(observation.now_s, (self.steps - 0.5) * step_s, step_s)
        full_tps = self.terms.replicas * self.terms.frontier.full.output_tps
        firm_tps = max(0.0, observation.demand_tps - observation.deferrable.tps)
        needed_tps = min(full_tps, firm_tps * (1 + SPARE_SHARE))
        inputs = HorizonInputs(
            supply_w=[self.present_w(observation.now_s), *(budget_w for _, budget_w in coming[1:])],
            demand_tps=[full_tps if observation.firm_work_waits else needed_tps]
            + [needed_tps] * (len(coming) - 1),
            work=self._work(observation.deferrable, len(coming)),
            stored_j=self.stored_j(),
        )
        return plan_horizon(self.terms, inputs)

    def _work(self, deferrable: DeferrableWork, steps: int) -> list[Deferrable]:
        """Return the deferrable work that waits, and that will arrive."""
        step_s = self.terms.step_s
        patience = min(steps, max(1, round(self.terms.patience_s / step_s)))
        waits = [Deferrable(step, deferrable.tokens / patience) for step in range(patience)]
        tokens = deferrable.tps * step_s
        arrives = [Deferrable(step + patience - 1, tokens, step) for step in range(steps)]
        return waits + arrives


@dataclass(frozen=True, slots=True)
class BatteryMemory:
    """What the stage keeps between ticks.

    Attributes:
        battery_w: What the battery gives, W at the GPUs; negative to charge; None before a plan.
        planned_s: Time of the last plan, s.
        present_w: Budget that the last plan counted on now, W.
        work_waited: Whether work that cannot be deferred waited then.
    """

    battery_w: float | None = None
    planned_s: float = -math.inf
    present_w: float = 0.0
    work_waited: bool = False


def steer_battery(
    observation: Observation, memory: BatteryMemory, horizon: HorizonForecast | None
) -> BatteryMemory:
    """Return what the battery does from now on, planned again where that is due.

    A new plan is due after `every_s`, when requests begin to wait, and when the present budget
    steps: nothing is charged with watts that are gone.
    """
    if horizon is None:
        return memory
    present_w = horizon.present_w(observation.now_s)
    begins_to_wait = observation.firm_work_waits and not memory.work_waited
    stepped = abs(present_w - memory.present_w) > STEP_SHARE * memory.present_w
    is_old = observation.now_s - memory.planned_s >= horizon.every_s
    if not (is_old or begins_to_wait or stepped):
        return memory
    plan = horizon.plan(observation)
    battery_w = _whole_replica_w(
        observation, horizon, present_w, plan.discharge_w[0] - plan.charge_w[0]
    )
    return BatteryMemory(battery_w, observation.now_s, present_w, observation.firm_work_waits)


def _whole_replica_w(
    observation: Observation, horizon: HorizonForecast, present_w: float, given_w: float
) -> float:
    """Return what the battery gives, W: enough for a whole replica, or nothing.

    The plan has fractions of replicas, but watts that wake no replica would not be drawn.
    """
    terms = horizon.terms
    one_w = ONE_ROOM * (terms.frontier.floor.draw_w - terms.frontier.asleep_w)
    awake_w = present_w - terms.replicas * terms.frontier.asleep_w
    if not observation.firm_work_waits or given_w <= 0 or awake_w + given_w >= one_w:
        return given_w
    most_w = terms.battery.gives_w(horizon.stored_j(), horizon.every_s)
    return one_w - awake_w if one_w - awake_w <= most_w else 0.0
