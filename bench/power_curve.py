"""The settled power of an emulated GPU, as model.c has it, for fitting its constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAK_PER_C = 0.002
_CLOCKS = 400


class Load(Protocol):
    """A load on a GPU, at any clock."""

    def at(self, speed: Any) -> tuple[Any, Any]:
        """Return the core and the memory load at a clock relative to the highest."""
        ...


@dataclass(frozen=True, slots=True)
class FixedLoad:
    """Shares of compute and of memory time in use, whatever the clock."""

    core: float
    mem: float

    def at(self, _: Any) -> tuple[Any, Any]:
        """Return both as they are."""
        return self.core, self.mem


@dataclass(frozen=True, slots=True)
class PacedLoad:
    """Memory time that stays and compute time that stretches when the clock falls.

    The two-stage pace of `coupling.Pace`: at the clock `s` a step takes `mem + core / s`.

    Attributes:
        core: Share of compute time at the full clock.
        mem: Share of memory time at the full clock.
    """

    core: float
    mem: float

    def at(self, speed: Any) -> tuple[Any, Any]:
        """Return the share of a step at this clock that each of the two takes."""
        core = self.core / speed
        busy = (self.core + self.mem) / (self.mem + core)
        return busy * core, busy * self.mem

    def rate_at(self, speed: float) -> float:
        """Return the throughput at a clock, relative to that at the full clock."""
        return (self.core + self.mem) / (self.mem + self.core / speed)


@dataclass(frozen=True, slots=True)
class PowerCurve:
    """The power model of one GPU; names and units as in nvemu.h.

    At clock f, with V the voltage share (flat up to the knee, then linear to 1) and s = f / max:
    `idle + static V^2 + core c V^2 s + mem m` with work, `idle + context V^2` with a context.
    Idle power grows with the heat of the whole, by `LEAK_PER_C`.
    """

    min_mhz: float
    max_mhz: float
    heat_c_per_w: float
    idle_w: float
    context_w: float
    static_w: float
    core_w: float
    mem_w: float
    knee_mhz: float
    knee_v: float

    def busy_w(self, clock_mhz: Floats, load: Load) -> Floats:
        """Return the power of a load at some clocks, W, without a power limit."""
        speed, volt2 = clock_mhz / self.max_mhz, self._volt2(clock_mhz)
        core, mem = load.at(speed)
        core_w = self.core_w * core * volt2 * speed
        return self._warm(self.idle_w + self.static_w * volt2 + core_w + self.mem_w * mem)

    def context_only_w(self, clock_mhz: float) -> float:
        """Return the power of an idle GPU that holds a context, W."""
        context_w = self.context_w * self._volt2(np.array(clock_mhz))
        return float(self._warm(self.idle_w + context_w))

    def settled(self, load: Load, clock_mhz: float, limit_w: float) -> tuple[float, float]:
        """Return power, W, and clock, MHz, of a load under a clock and a power limit.

        At the lowest clock a GPU may draw more than its power limit.
        """
        clocks_mhz = np.linspace(self.min_mhz, clock_mhz, _CLOCKS)
        power_w = np.maximum.accumulate(self.busy_w(clocks_mhz, load))
        if power_w[-1] <= limit_w:
            return float(power_w[-1]), clock_mhz
        return max(limit_w, float(power_w[0])), float(np.interp(limit_w, power_w, clocks_mhz))

    def _warm(self, cool_w: Floats) -> Floats:
        return np.asarray(cool_w / (1 - self.idle_w * LEAK_PER_C * self.heat_c_per_w))

    def _volt2(self, clock_mhz: Floats) -> Floats:
        above = np.maximum(0.0, clock_mhz - self.knee_mhz) / (self.max_mhz - self.knee_mhz)
        return np.asarray((self.knee_v + (1 - self.knee_v) * above) ** 2)
