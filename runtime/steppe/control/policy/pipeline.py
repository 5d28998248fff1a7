"""From an observation to a plan, in nine stages. This is the whole policy on one screen.

1. `learn_costs`: what the steps of the last window really cost, in time and energy.
2. `learn_slo`: from measured latency, how much capacity beyond the demand the SLO needs.
3. `choose_depths`: which replicas sleep deeper than a pause, or come back. The stages after it see
   the other replicas, and the budget without what the deep ones draw.
4. `usable_watts`: how many watts a plan may use, given what earlier plans really drew.
5. `after_fall`: how many replicas may be awake, if a limit falls within the time of a drain
   (`coming_fall`).
6. `best_plan`: the plan with the most tokens or the least energy for these watts (`goals`).
7. `delay_scale_down`: replicas stay awake for a while when they are no longer needed.
8. `keep_one_awake`: one replica stays awake through a shortage that costs less than a wake.
9. `steer_battery`: what the battery gives or takes, by a plan of the day (`control.horizon`).

Each stage is a pure function of the observation and of what it kept at the last tick.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from steppe.control.horizon.battery import BatteryMemory, HorizonForecast, steer_battery
from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.coming_fall import after_fall
from steppe.control.policy.cost_learning import CostMemory, learn_costs
from steppe.control.policy.feedback import (
    FeedbackMemory,
    FeedbackSettings,
    learn_draw,
    note_plan,
    usable_watts,
    with_factors,
)
from steppe.control.policy.goals import Goal
from steppe.control.policy.keep_awake import KeepAwakeMemory, KeepAwakeSettings, keep_one_awake
from steppe.control.policy.scale_down import ScaleDownMemory, delay_scale_down
from steppe.control.policy.sleep_depth import (
    DepthMemory,
    choose_depths,
    without_deep,
)
from steppe.control.policy.sleep_need import DepthSettings
from steppe.control.policy.slo_feedback import SloMemory, learn_slo, note_watts
from steppe.control.power_limits import most_awake
from steppe.control.state import Learned, Observation
from steppe.roofline.step_costs import StepCosts


@dataclass(frozen=True, slots=True)
class Memory:
    """What the stages keep between ticks."""

    costs: CostMemory = field(default_factory=CostMemory)
    slo: SloMemory = field(default_factory=SloMemory)
    depths: DepthMemory = field(default_factory=DepthMemory)
    feedback: FeedbackMemory = field(default_factory=FeedbackMemory)
    scale_down: ScaleDownMemory = field(default_factory=ScaleDownMemory)
    keep_awake: KeepAwakeMemory = field(default_factory=KeepAwakeMemory)
    battery: BatteryMemory = field(default_factory=BatteryMemory)


@dataclass(slots=True)
class PolicyPipeline:
    """A policy that keeps its draw to the budget.

    Attributes:
        goal: What the best plan is; keeps no memory.
        feedback: Settings of the feedback.
        keep_awake: Settings of the last awake replica.
        dwell_s: How long a replica stays awake that is not needed, s.
        costs: What a step costs, as swept or modelled; None if unknown.
        horizon: Plans the day for the battery; None without a horizon.
        depths: How replicas sleep deeper than a pause; None if they do not.
        keeps_to_limits: Whether no more replicas are awake than the budget covers at the lowest
            board limits.
        memory: What is kept between ticks.
    """

    goal: Goal
    feedback: FeedbackSettings
    keep_awake: KeepAwakeSettings
    dwell_s: float
    costs: StepCosts | None = None
    horizon: HorizonForecast | None = None
    depths: DepthSettings | None = None
    keeps_to_limits: bool = False
    memory: Memory = field(default_factory=Memory)

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next tick."""
        memory = self.memory
        costs = learn_costs(observation.work, memory.costs, self.costs)
        slo = learn_slo(observation, memory.slo, self._engine_tokens)
        whole = observation.with_learned(self._learned(costs, slo))
        changes, depths = choose_depths(whole, memory.depths, self.depths)
        observation = without_deep(whole, changes, self.depths)
        feedback = learn_draw(observation, memory.feedback, self.feedback)
        feedback = with_factors(feedback, memory.costs.used, costs.used)
        usable_w = usable_watts(observation, feedback, self.feedback)
        most = self._most_after_fall(observation, feedback, memory.scale_down)
        choose = partial(self._best_plan, observation, usable_w, most)
        plan, scale_down = delay_scale_down(observation, choose, memory.scale_down, self.dwell_s)
        plan, kept = keep_one_awake(observation, plan, memory.keep_awake, self.keep_awake)
        battery = steer_battery(whole, memory.battery, self.horizon)
        feedback = note_plan(observation, feedback, plan)
        slo = note_watts(slo, plan, usable_w)
        self.memory = Memory(costs, slo, depths, feedback, scale_down, kept, battery)
        return replace(
            plan,
            draw_w=plan.draw_w + whole.gpu_budget_w - observation.gpu_budget_w,
            battery_w=battery.battery_w,
            learned=whole.learned,
            deepen=changes.deepen,
            restore=changes.restore,
        )

    def _most_after_fall(
        self, observation: Observation, feedback: FeedbackMemory, scale_down: ScaleDownMemory
    ) -> int:
        """Return how many replicas the plan has awake once a limit has fallen; all without."""
        everyone = len(observation.replicas)
        fallen = after_fall(observation)
        if fallen is None:
            return everyone
        usable_w = usable_watts(fallen, feedback, self.feedback)
        choose = partial(self._best_plan, fallen, usable_w, everyone)
        return len(delay_scale_down(fallen, choose, scale_down, self.dwell_s)[0].awake)

    def _best_plan(
        self, observation: Observation, usable_w: float, most: int, bounds: AwakeBounds
    ) -> Plan:
        """Return the best plan within bounds, with no more awake than board limits can hold.

        Args:
            observation: The fleet.
            usable_w: Watts that the plan may use, W.
            most: Largest number of awake replicas.
            bounds: How many may be awake.
        """
        bounds = bounds.at_most(most)
        if self.keeps_to_limits:
            bounds = bounds.at_most(most_within_limits(observation, self.feedback.asleep_w))
        return self.goal.best_plan(observation, usable_w, bounds)

    @property
    def _engine_tokens(self) -> int:
        """The engine's own limit of tokens in a step; 0 if unknown."""
        return 0 if self.costs is None else self.costs.tokens_per_step

    def _learned(self, costs: CostMemory, slo: SloMemory) -> Learned:
        tokens = slo.tokens_per_step(self._engine_tokens)
        return Learned(costs.used, costs.deviations, slo.reserve, slo.at_ceiling, tokens)


def most_within_limits(observation: Observation, asleep_w: float) -> int:
    """Return how many replicas may be awake so that board limits alone can keep the budget.

    Args:
        observation: The fleet; replicas without board limits count as sleeping.
        asleep_w: Draw of a sleeping replica, W.
    """
    replicas = observation.replicas
    lowest_w = max((replica.lowest_limit_w for replica in replicas), default=0.0)
    if not lowest_w:
        return len(replicas)
    return most_awake(observation.gpu_budget_w, len(replicas), lowest_w, asleep_w)
