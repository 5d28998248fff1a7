"""What one GPU can do, and one reading of its sensors, in W, J, MHz and s."""

from __future__ import annotations

import bisect
import enum
import math
from dataclasses import dataclass

# How far the mean draw of 100 ms may lie above the highest power limit. An allowance that
# keeps the energy bounds safe, not a measured number.
EXCURSION = 1.25

# The SM clock may read one step of the clock table above a limit that it obeys.
TOLERANCE_MHZ = 15
# The clock of an idle GPU may lie above the lowest limit, far below where the voltage begins to
# rise. An allowance in shares of the highest clock, not a measured number.
IDLE_SHARE = 0.2


class LimitReason(enum.StrEnum):
    """Why the SM clock is not at its highest, after NVML's clocks event reasons."""

    IDLE = "idle"
    APPLICATION_CLOCKS = "application clocks"
    POWER_LIMIT = "power limit"
    HARDWARE_SLOWDOWN = "hardware slowdown"
    SYNC_BOOST = "sync boost"
    THERMAL = "thermal"
    HARDWARE_THERMAL = "hardware thermal"
    POWER_BRAKE = "power brake"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one GPU can do, read once when it is opened.

    A knob that the GPU lacks is None or empty here, and is never used.

    Attributes:
        uuid: The name of the GPU that never changes; everything is keyed by it.
        name: Marketing name.
        driver: Version of the driver.
        is_mig: Split into instances; its energy can only be divided by an estimate.
        has_energy_counter: Counts joules itself (Volta and newer).
        has_instant_power: Reports power over about 25 ms, not only a 1 s mean.
        has_module_scope: Can read the whole module, CPU included (GH200, GB200).
        power_limit_range_w: Lowest and highest board power limit, W.
        default_power_limit_w: Board power limit after a driver load, W.
        sm_clocks_mhz: Supported SM clocks, MHz, ascending.
    """

    uuid: str
    name: str
    driver: str
    is_mig: bool
    has_energy_counter: bool
    has_instant_power: bool
    has_module_scope: bool
    power_limit_range_w: tuple[float, float] | None
    default_power_limit_w: float | None
    sm_clocks_mhz: tuple[int, ...]

    @property
    def is_emulated(self) -> bool:
        """Whether this is an emulated GPU; its joules must be labelled `emulated`."""
        return self.driver.endswith(".EMU")

    @property
    def has_clock_limit(self) -> bool:
        """Whether the SM clock can be limited."""
        return bool(self.sm_clocks_mhz)

    @property
    def max_w(self) -> float:
        """The highest draw of the board over 100 ms, W; infinite if NVML gives no limit."""
        if self.power_limit_range_w is None:
            return math.inf
        return EXCURSION * self.power_limit_range_w[1]

    def obeys_clock_limit(self, clock_mhz: int, limit_mhz: int) -> bool:
        """Whether an SM clock is within a limit, given the resolution of the reading."""
        return clock_mhz <= max(limit_mhz + TOLERANCE_MHZ, IDLE_SHARE * self.sm_clocks_mhz[-1])

    def nearest_clock_mhz(self, clock_mhz: int) -> int:
        """Return the highest supported SM clock within `clock_mhz`, or the lowest there is, MHz."""
        at = bisect.bisect_right(self.sm_clocks_mhz, clock_mhz)
        return self.sm_clocks_mhz[max(0, at - 1)]

    def nearest_power_limit_w(self, limit_w: float) -> float:
        """Return the board power limit nearest to `limit_w` that is allowed, W."""
        if self.power_limit_range_w is None:
            return limit_w
        low_w, high_w = self.power_limit_range_w
        return min(max(limit_w, low_w), high_w)


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of the sensors of one GPU.

    Attributes:
        power_w: Draw over about 25 ms if the GPU reports it, else `average_power_w`, W.
        average_power_w: Mean draw of the last second (instantaneous on GA100 and older
            where the driver has no average), W. Never integrate it.
        sm_clock_mhz: SM clock now, MHz.
        temperature_c: Core temperature, degrees Celsius.
        power_limit_w: Board power limit in force after every limiter, also out of band, W.
        reasons: Why the clock is not at its highest.
        utilisation: Share of the last sampling period in which a kernel ran, 0 to 1; can
            stick at 1 after a crash, so never the only sign of work.
    """

    power_w: float
    average_power_w: float
    sm_clock_mhz: int
    temperature_c: int | None
    power_limit_w: float | None
    reasons: frozenset[LimitReason]
    utilisation: float | None
