"""Which operating point each replica runs at, and how soon it may change."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from steppe.config.section import NonNegative, Section, Share

PolicyName = Literal["follow_budget", "save_energy", "full_clocks"]
DEADMAN_PERIODS, LEAST_DEADMAN_S = 3, 3.0
"""How long limits hold that no tick renews, by default: control periods, and at least s."""
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def _policy(value: str) -> str:
    if value in get_args(PolicyName) or _CLASS.fullmatch(value):
        return value
    names = ", ".join(get_args(PolicyName))
    raise ValueError(f"asked for {names} or package.module:Class")


class HorizonSection(Section):
    """Plan the battery's day from the forecast of the supply.

    The day is one of trace time: with `power.speedup` a step passes that much faster. Requests of
    class `deferrable` are planned for when power is cheap, within `gateway.max_wait_s`.
    """

    step_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Length of a step, s of trace time."""
    steps: Annotated[int, Field(ge=2, le=1000)] = 144
    """Number of steps to plan."""
    every_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Time between two plans, s of trace time; at least one control period."""


class BatchControlSection(Section):
    """Plan batch work, which runners declare with quantities and deadlines.

    The day is one of trace time: with `power.speedup` a step passes that much faster.
    """

    step_s: Annotated[float, Field(gt=0, le=86_400)] = 900.0
    """Length of a step, s of trace time."""
    steps: Annotated[int, Field(ge=2, le=1000)] = 96
    """Number of steps to plan."""
    every_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """Time between two plans, s of trace time; at least one control period."""
    forecast: Literal["known", "persistence"] = "known"
    """`known`: what the supplies know of their future. Traces and weather years know all of it, a
    live signal is taken to stay. `persistence`: every supply is taken to stay as it is."""


class ControlSection(Section):
    """The control loop."""

    policy: Annotated[str, AfterValidator(_policy)] = "follow_budget"
    """`follow_budget`: the most tokens within the budget. `save_energy`: the least energy that
    keeps the SLO, with the budget as a ceiling. `full_clocks`: every replica at its highest point,
    whatever the budget. `package.module:Class`: a class of your own, see `steppe.Policy`."""
    period_s: Annotated[float, Field(ge=0.5, le=60)] = 1.0
    """Time between two ticks, s. Shorter windows say too little about the draw."""
    deadman_s: Annotated[float, Field(gt=0, le=600)] | None = None
    """How long limits hold that no tick renews, s; at least two control periods. A replica whose
    limits are not renewed in time, because the controller, the actor of its node or Ray died,
    finishes its step and pauses by itself; it goes on as soon as they are renewed. If absent: 3
    control periods, and 3 s at least."""
    lead_s: NonNegative = 0.2
    """Time before a known cut of the budget at which the limits are lowered, s. Set it to the time
    that the fleet takes to follow, so that the draw is down when the budget is."""
    power_limits: bool = True
    """Set the board power limit of every GPU as a backstop, through the agent: the limits sum to
    the budget, so that wrong operating points or a dead controller cannot exceed it for long.
    Clocks stay what sets the draw. Without an agent, or with zeusd, none are set."""
    sleep_for_limits: bool = True
    """Keep no more replicas awake than the budget covers at the lowest board limits of their GPUs,
    so that the limits alone can keep it. Turn it off where a replica draws less than the lowest
    limit, as small models do, and a wrong draw of that size does no harm."""
    margin_share: Share = 0.02
    """Least share of the budget left free while all replicas are awake, against the plan's own
    error. Up to 1.8 times as much while few are awake, because their draw spreads further."""
    over_share: Annotated[float, Field(gt=0, le=1)] = 5e-5
    """Energy that the spread of the draw may put above the budget, share of the energy. The margin
    widens with the spread, to 6 % at most. With one or two replicas more lies above it."""
    dwell_s: NonNegative = 30.0
    """How long a replica stays awake that is not needed, s; never delays a sleep that the budget
    requires. If fewer than a fifth of the fleet are not needed, they stay awake, unless they cost
    output."""
    drain_s: NonNegative = 30.0
    """How long a draining replica may finish its requests before it is frozen, s. Where frozen
    replicas take turns, each serves for this long, and for 30 s at least."""
    utilisation: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Most of a plan's output that the demand may take (`save_energy`). A burst finds room in the
    batches at once, and a higher clock one tick later."""
    wake_j: NonNegative | None = None
    """Energy to put a replica to sleep and wake it, J. The last awake replica stays awake at its
    lowest point until the energy drawn above the budget for it reaches this value; 0 never exceeds
    the budget for it. If absent: 5 s of an idle replica's draw."""
    sleep_by_forecast: bool = False
    """Choose the depths of `fleet.sleep` by the forecast of the budget. Traces and weather years
    are known ahead, so their forecast is perfect, unlike a real one; a live signal that has no
    forecast of its own is taken to stay, and then replicas go deep at once."""
    horizon: HorizonSection | None = None
    """Plan the day for `power.battery` (`follow_budget`, `save_energy`). If absent, the battery
    follows its own rule."""
    batch: BatchControlSection = BatchControlSection()
    """Plan batch work."""

    @model_validator(mode="after")
    def _complete(self) -> ControlSection:
        if self.horizon is not None and self.policy not in ("follow_budget", "save_energy"):
            raise ValueError(f"policy {self.policy} has no use for a horizon")
        if self.deadman_s is not None and self.deadman_s < 2 * self.period_s:
            raise ValueError(
                f"deadman_s: asked for {self.deadman_s:g} s, found two control periods longer: "
                f"{2 * self.period_s:g} s"
            )
        return self

    @property
    def longest_unrenewed_s(self) -> float:
        """`deadman_s`, or its default, s."""
        if self.deadman_s is not None:
            return self.deadman_s
        return max(DEADMAN_PERIODS * self.period_s, LEAST_DEADMAN_S)
