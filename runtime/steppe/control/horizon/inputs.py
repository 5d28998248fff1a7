"""What is expected of a day, and what to do in each step of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steppe.control.plan import AwakeBounds
from steppe.frontier.pareto import Frontier
from steppe.power.battery import NO_BATTERY, Battery

_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class HorizonTerms:
    """What does not change from one look ahead to the next.

    Attributes:
        frontier: Operating points of one replica.
        replicas: How many there are.
        wake_j: Joules to put a replica to sleep and wake it, with what lost tokens are worth, J.
        step_s: Length of a step, s.
        battery: Between the supply and the GPUs, in watts of the GPUs.
        patience_s: How long deferrable work may wait, s.
    """

    frontier: Frontier
    replicas: int
    wake_j: float
    step_s: float
    battery: Battery = NO_BATTERY
    patience_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Deferrable:
    """Work that may wait.

    Attributes:
        due_step: Index of the last step in which it may run.
        tokens: Output tokens.
        from_step: Index of the step in which it comes.
    """

    due_step: int
    tokens: float
    from_step: int = 0


@dataclass(frozen=True, slots=True)
class HorizonInputs:
    """What is expected, step by step, and what the fleet begins with.

    Attributes:
        supply_w: Watts for the GPUs without the battery, a lower quantile of the forecast, W.
        demand_tps: Output tokens per second that somebody waits for.
        work: What may wait.
        awake: Replicas awake now.
        stored_j: Energy in the battery now, J.
    """

    supply_w: Sequence[float]
    demand_tps: Sequence[float]
    work: Sequence[Deferrable] = ()
    awake: int = 0
    stored_j: float = 0.0


@dataclass(frozen=True, slots=True)
class HorizonPlan:
    """What to do in each step.

    Attributes:
        awake: Replicas awake; not whole numbers.
        firm_tps: Output tokens per second for those who wait.
        deferred_tps: Output tokens per second of work that may wait.
        draw_w: Draw of the GPUs, W.
        charge_w: What the battery takes, W.
        discharge_w: What it gives, W.
        stored_j: Energy in it at the end of the step, J.
        short_w: Watts that are missing, W.
        late_tokens: Deferrable tokens that miss their time.
    """

    awake: tuple[float, ...]
    firm_tps: tuple[float, ...]
    deferred_tps: tuple[float, ...]
    draw_w: tuple[float, ...]
    charge_w: tuple[float, ...]
    discharge_w: tuple[float, ...]
    stored_j: tuple[float, ...]
    short_w: tuple[float, ...]
    late_tokens: float

    @property
    def bounds(self) -> AwakeBounds:
        """How many replicas may be awake in the first step."""
        return AwakeBounds(
            math.floor(self.awake[0] + _ROUNDING), math.ceil(self.awake[0] - _ROUNDING)
        )
