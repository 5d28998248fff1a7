"""What the simulator must know of a replica: how long a step takes, and what it draws."""

from __future__ import annotations

from typing import Protocol

from steppe.roofline.energy_roofline import StepWork


class StepModel(Protocol):
    """Time and draw of one replica: all its GPUs together, as `EnergyRoofline` gives them."""

    def step_s(self, work: StepWork, clock_mhz: int) -> float:
        """Return how long a step takes at this SM clock, s."""
        ...

    def step_draw_w(self, work: StepWork, clock_mhz: int) -> float:
        """Return the mean draw over the step, W."""
        ...

    def idle_w(self, clock_mhz: int) -> float:
        """Return the draw of an awake replica without work under this clock limit, W."""
        ...

    @property
    def asleep_w(self) -> float:
        """Draw of a frozen replica at the lowest clock, W."""
        ...
