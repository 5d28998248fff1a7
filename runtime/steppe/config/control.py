"""Who decides which operating point each replica runs at, and how soon it may change."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from steppe.config.section import NonNegative, Positive, Section, Share

PolicyName = Literal[
    "follow_budget",
    "save_energy",
    "full_clocks",
    "power_cap",
    "clocks",
    "replicas",
    "clocks_and_replicas",
    "nameplate",
    "reactive",
]


class HorizonSection(Section):
    """Look a day ahead: which replicas stay warm, which wakes pay back, what the battery does.

    The day is one of trace time: with `power.speedup` a step passes so much sooner.
    Requests of class `deferrable` are planned for when watts are cheap, within
    `gateway.max_wait_s`.
    """

    step_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Length of a step, s of trace time."""
    steps: Annotated[int, Field(ge=2, le=1000)] = 144
    """How many steps to look ahead."""
    every_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Time between two looks ahead, s of trace time; one control period at least."""
    low_share: Share = 0.8
    """What of the forecast to count on for replicas that stay warm."""
    wake_j: NonNegative = 0.0
    """Joules to put a replica to sleep and wake it again, J; at 0 any number may be awake."""


class ControlSection(Section):
    """The control loop."""

    policy: PolicyName = "follow_budget"
    """`follow_budget`: the most tokens within the budget. `save_energy`: the least joules at the
    SLO, the budget as a ceiling. The others are what is done elsewhere, to compare with:
    `full_clocks`, `power_cap`, `clocks`, `replicas`, `clocks_and_replicas`, `nameplate`,
    `reactive`."""
    period_s: Annotated[float, Field(ge=0.5, le=60)] = 1.0
    """Time between two ticks, s. Shorter windows tell too little of the draw to learn from."""
    lead_s: NonNegative = 0.2
    """How long before a cut of the budget that is known ahead the limits are lowered, s: what the
    fleet takes to follow. The draw is then down when the budget is."""
    margin_share: Share = 0.02
    """Least share of the budget left unused while all replicas are awake, against the plan's own
    error; up to 1.8 times as much where few are, for their draw spreads further."""
    over_share: Annotated[float, Field(gt=0, le=1)] = 5e-5
    """Energy that the spread of the draw may put above the budget, share of the energy: the margin
    widens with the spread, to 6 % at most. At a spread of 2 % that is a hundredth of the time. One
    or two replicas spread further, and lie above it for more."""
    ramp_up_share: Positive = 0.25
    """Most the budget that plans may use may rise in a second, share of the fleet's full draw;
    where it is ample already, a burst of load raises the draw at once."""
    dwell_s: NonNegative = 30.0
    """How long a replica stays awake that is not wanted, s; never delays a needed sleep. Fewer
    unwanted ones than a fifth of the fleet stay awake for good, unless they cost output."""
    drain_s: NonNegative = 30.0
    """How long a draining replica may finish its requests before it is frozen, s; where frozen ones
    take turns, or wake to finish, a turn lasts as long, but 30 s at least."""
    utilisation: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Most of a plan's output that the demand may take (`save_energy`); a burst finds room in the
    batches at once, and a higher clock a tick later."""
    nameplate_w: Positive | None = None
    """Power limit of a replica's GPUs together, W (`nameplate`)."""
    least_cap_w: Positive | None = None
    """Least power limit that a replica's GPUs take, together, W (`power_cap`)."""
    horizon: HorizonSection | None = None
    """Look a day ahead (`follow_budget`, `save_energy`); not when absent."""

    @model_validator(mode="after")
    def _complete(self) -> ControlSection:
        if self.policy == "nameplate" and self.nameplate_w is None:
            raise ValueError("policy nameplate needs nameplate_w")
        if self.policy == "power_cap" and self.least_cap_w is None:
            raise ValueError("policy power_cap needs least_cap_w")
        if self.horizon is not None and self.policy not in ("follow_budget", "save_energy"):
            raise ValueError(f"policy {self.policy} has no use for a horizon")
        return self
