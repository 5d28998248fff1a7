"""Last-awake stage: one replica stays awake through a shortage that costs less than a wake.

To sleep and wake costs energy, and no request is served meanwhile. Where the budget falls short of
one awake replica by a few watts, the energy drawn above it is less than that for a while. The rule
is that of renting or buying skis: the replica stays awake until the energy above the budget has
reached the cost of sleeping and waking. So no shortage costs more than twice the best choice in
hindsight, and the budget is exceeded by no more than one such cost (Karlin et al., "Competitive
snoopy caching", 1988).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from steppe.control.plan import Plan
from steppe.control.state import Observation, ReplicaState
from steppe.roofline.point import OperatingPoint

SLEEP_AND_WAKE_S = 5.0
"""Time to sleep and wake where nothing was measured, s: vLLM's level 1 takes 2.8 s to sleep and
2.9 s to wake for Qwen3-30B on an A100 (vLLM blog, "Zero-Reload Model Switching", 2025)."""
LEAST_KEPT_S = 30.0
"""A replica is kept awake only if the energy would last for this long, s: not in a deep cut."""


@dataclass(frozen=True, slots=True)
class KeepAwakeSettings:
    """What the stage needs of the pool and its configuration.

    Attributes:
        floor: The operating point with the least draw.
        asleep_w: Draw of a sleeping replica, W.
        wake_j: Energy to put a replica to sleep and wake it, J; 0 to never exceed the budget.
    """

    floor: OperatingPoint
    asleep_w: float
    wake_j: float


@dataclass(frozen=True, slots=True)
class KeepAwakeMemory:
    """What the stage keeps between ticks.

    Attributes:
        over_j: Energy drawn above the budget to keep a replica awake, less what was left of the
            budget since, J.
        now_s: Time of the last tick, s; None before the first.
        gpu_budget_w: Budget at the last tick, W.
        planned_w: Draw of the last plan, W.
        is_kept: Whether the last plan kept a replica awake.
    """

    over_j: float = 0.0
    now_s: float | None = None
    gpu_budget_w: float = 0.0
    planned_w: float = 0.0
    is_kept: bool = False


def keep_one_awake(
    observation: Observation, plan: Plan, memory: KeepAwakeMemory, settings: KeepAwakeSettings
) -> tuple[Plan, KeepAwakeMemory]:
    """Return the plan, with one replica at its lowest point where it would have none awake.

    Args:
        observation: The fleet and its budget.
        plan: The best plan within the budget.
        memory: What was kept at the last tick.
        settings: The pool and its configuration.
    """
    over_j = _over_j(observation, memory)
    kept_w = plan.draw_w - settings.asleep_w + settings.floor.draw_w
    over_w = max(0.0, kept_w - observation.gpu_budget_w)
    lasts_s = LEAST_KEPT_S
    if memory.is_kept and memory.now_s is not None:
        lasts_s = observation.now_s - memory.now_s
    awake = observation.count(ReplicaState.AWAKE)
    is_kept = not plan.awake and awake > 0 and over_j + over_w * lasts_s <= settings.wake_j
    if is_kept:
        plan = replace(plan, awake=(settings.floor,), draw_w=kept_w)
    return plan, KeepAwakeMemory(
        over_j, observation.now_s, observation.gpu_budget_w, plan.draw_w, is_kept
    )


def _over_j(observation: Observation, memory: KeepAwakeMemory) -> float:
    """Return the energy above the budget so far, J."""
    if memory.now_s is None:
        return 0.0
    drawn_w = memory.planned_w if observation.draw_w is None else observation.draw_w
    over_j = (drawn_w - memory.gpu_budget_w) * (observation.now_s - memory.now_s)
    if not memory.is_kept:
        over_j = min(0.0, over_j)
    return max(0.0, memory.over_j + over_j)
