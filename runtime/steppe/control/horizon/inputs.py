"""What a plan of the day starts from, and what it consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steppe.frontier.pareto import Frontier
from steppe.power.battery import NO_BATTERY, Battery


@dataclass(frozen=True, slots=True)
class HorizonTerms:
    """What does not change during a run.

    Attributes:
        frontier: Operating points of one replica.
        replicas: Number of replicas.
        step_s: Length of a step, s.
        battery: The battery between the supply and the GPUs, in watts at the GPUs.
        patience_s: How long deferrable work may wait, s.
    """

    frontier: Frontier
    replicas: int
    step_s: float
    battery: Battery = NO_BATTERY
    patience_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Deferrable:
    """Work that may wait.

    Attributes:
        due_step: Index of the last step in which it may run.
        tokens: Output tokens.
        from_step: Index of the step in which it arrives.
    """

    due_step: int
    tokens: float
    from_step: int = 0


@dataclass(frozen=True, slots=True)
class HorizonInputs:
    """What is expected in each step, and the state at the start.

    Attributes:
        supply_w: Watts for the GPUs without the battery, W.
        demand_tps: Output tokens per second that cannot be deferred.
        work: Deferrable work.
        stored_j: Energy in the battery now, J.
        surplus_w: The part of the supply that is surplus, W; None if all of it is. More than that
            is drawn for deferrable work only if it would be late otherwise.
    """

    supply_w: Sequence[float]
    demand_tps: Sequence[float]
    work: Sequence[Deferrable] = ()
    stored_j: float = 0.0
    surplus_w: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class HorizonPlan:
    """What to do in each step.

    Attributes:
        awake: Awake replicas; not whole numbers.
        firm_tps: Output tokens per second of work that cannot be deferred.
        deferred_tps: Output tokens per second of deferrable work.
        draw_w: Draw of the GPUs, W.
        charge_w: What the battery takes, W.
        discharge_w: What it gives, W.
        stored_j: Energy in it at the end of the step, J.
        short_w: Watts that are missing, W.
        late_tokens: Deferrable tokens that miss their deadline.
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
