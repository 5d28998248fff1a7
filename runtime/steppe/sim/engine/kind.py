"""What the replicas of a pool have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from steppe.control.sleep_ladder import SleepDepth, SleepRung
from steppe.energy.attribution import TokenWeights
from steppe.sim.engine.batch import BatchLimits
from steppe.sim.engine.step_table import StepModel, StepTable


@dataclass(frozen=True, slots=True)
class Transitions:
    """Time and draw of starting, waking and going to sleep.

    Attributes:
        start_s: From nothing to serving, s.
        wake_s: From asleep to the next step, s.
        sleep_s: From the last step to asleep, s.
        draw_w: Draw during a transition, W.
    """

    start_s: float
    wake_s: float
    sleep_s: float
    draw_w: float


@dataclass(frozen=True, slots=True)
class ReplicaKind:
    """What the replicas of a pool have in common.

    Attributes:
        model: Time and draw of its steps.
        engine: Fixed limits of its engine.
        lowest_clock_mhz: SM clock of a replica that sleeps, MHz.
        full_clock_mhz: SM clock without a limit, MHz.
        transitions: Time and draw of its transitions.
        weights: What a token costs, for attribution.
        rungs: The depths of sleep below a pause.
        table: Lookup table of the model; shared by all replicas.
    """

    model: StepModel
    engine: BatchLimits
    lowest_clock_mhz: int
    full_clock_mhz: int
    transitions: Transitions
    weights: TokenWeights = field(default_factory=TokenWeights)
    rungs: tuple[SleepRung, ...] = ()
    table: StepTable = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", StepTable(self.model))

    def rung(self, depth: SleepDepth) -> SleepRung:
        """Return the rung of a depth below a pause."""
        return next(rung for rung in self.rungs if rung.depth == depth)
