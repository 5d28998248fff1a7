"""The emulated GPU's own pace and power, in closed form: a simulation that agrees with it.

Modelled, never measured: `emulator/profiles.c` says which numbers come from where.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files

from steppe.config import PaceSection
from steppe.emulator.pace import StepParts
from steppe.errors import ConfigError
from steppe.roofline.energy_roofline import StepWork

PROFILES = files("steppe.emulator") / "profiles.c"
_SEARCH_STEPS = 24
_CONSTANT = re.compile(r"\.(\w+) = ([0-9.]+)\b")


@dataclass(frozen=True, slots=True)
class GpuProfile:
    """The power model of one emulated GPU; see `emulator/model.c` for the formula.

    Attributes:
        lowest_mhz: Lowest SM clock, MHz.
        full_mhz: Highest SM clock, MHz.
        knee_mhz: Below this clock the voltage falls no further, MHz.
        knee_v: Voltage there, share of that at the highest clock.
        idle_w: Draw without a context, W.
        context_w: More with a context and no work, W.
        static_w: More while anything runs, W.
        core_w: More while the cores compute all the time at the highest clock, W.
        mem_w: More while the memory streams all the time, W.
        max_limit_w: Board power limit, W.
        heat_c_per_w: Rise of the temperature with the draw, degrees per W.
        leak_per_c: Rise of the idle draw with the temperature, share per degree.
    """

    lowest_mhz: int
    full_mhz: int
    knee_mhz: int
    knee_v: float
    idle_w: float
    context_w: float
    static_w: float
    core_w: float
    mem_w: float
    max_limit_w: float
    heat_c_per_w: float
    leak_per_c: float

    def voltage_share(self, clock_mhz: float) -> float:
        """Return the voltage at a clock, share of that at the highest."""
        if clock_mhz <= self.knee_mhz:
            return self.knee_v
        above = (clock_mhz - self.knee_mhz) / (self.full_mhz - self.knee_mhz)
        return self.knee_v + (1 - self.knee_v) * above

    def settled_w(self, cold_w: float) -> float:
        """Return what a draw of `cold_w` at ambient temperature becomes once the GPU is warm, W."""
        return cold_w / (1 - self.idle_w * self.leak_per_c * self.heat_c_per_w)


def emulated_profile(key: str) -> GpuProfile:
    """Return the constants of an emulated GPU, from the table that the emulator is built of.

    Raises:
        ConfigError: There is no such GPU.
    """
    text = PROFILES.read_text()
    dynamics, _, table = text.partition("profiles[]")
    rows = {row.split('"', 1)[0]: row for row in table.split('{.key = "')[1:]}
    if key not in rows:
        raise ConfigError(f"device.profile: asked for {key}, found {', '.join(sorted(rows))}")
    found = {name: float(value) for name, value in _CONSTANT.findall(dynamics + rows[key])}
    return GpuProfile(
        lowest_mhz=round(found["min_mhz"]),
        full_mhz=round(found["max_mhz"]),
        knee_mhz=round(found["knee_mhz"]),
        **{
            name: found[name]
            for name in (
                "knee_v",
                "idle_w",
                "context_w",
                "static_w",
                "core_w",
                "mem_w",
                "max_limit_w",
                "heat_c_per_w",
                "leak_per_c",
            )
        },
    )


@dataclass(frozen=True, slots=True)
class PaceModel:
    """Time and draw of a step as the emulated GPU paces it; `emulator/pace.py` has the formula.

    The draw follows from the shares of the step in which cores and memory are busy. Leakage counts
    at the temperature at which the draw settles. A step that would draw more than the
    board's power limit runs at the clock that just keeps it.

    Attributes:
        profile: The GPU.
        pace: The constants of a step's time.
        gpus: GPUs of the replica, which all carry the same load.
    """

    profile: GpuProfile
    pace: PaceSection
    gpus: int = 1

    def step_s(self, work: StepWork, clock_mhz: int) -> float:
        """Return how long a step takes, s."""
        parts = self._parts(work)
        return self._at(parts, self._held(parts, clock_mhz))[0]

    def step_draw_w(self, work: StepWork, clock_mhz: int) -> float:
        """Return the mean draw over a step, W."""
        parts = self._parts(work)
        return self.gpus * self._at(parts, self._held(parts, clock_mhz))[1]

    def idle_w(self, clock_mhz: int) -> float:
        """Return the draw of an awake replica without work: its context keeps the clock up, W."""
        gpu = self.profile
        context_w = gpu.context_w * gpu.voltage_share(clock_mhz) ** 2
        return self.gpus * gpu.settled_w(gpu.idle_w + context_w)

    @property
    def asleep_w(self) -> float:
        """Draw of a frozen replica: its context at the lowest clock, W."""
        return self.idle_w(self.profile.lowest_mhz)

    def _parts(self, work: StepWork) -> StepParts:
        pace = self.pace
        return StepParts(
            memory_s=pace.weights_s + pace.context_s * work.context_tokens,
            compute_s=(
                pace.decode_s * work.decode_sequences + pace.prefill_s * work.prefill_tokens
            ),
            launch_s=pace.launch_s,
            overlap=pace.overlap,
        )

    def _held(self, parts: StepParts, clock_mhz: float) -> float:
        """Return the highest clock up to a limit at which a step keeps the power limit, MHz."""
        if self._at(parts, clock_mhz)[1] <= self.profile.max_limit_w:
            return clock_mhz
        low, high = float(self.profile.lowest_mhz), float(clock_mhz)
        for _ in range(_SEARCH_STEPS):
            middle = (low + high) / 2
            if self._at(parts, middle)[1] > self.profile.max_limit_w:
                high = middle
            else:
                low = middle
        return low

    def _at(self, parts: StepParts, clock_mhz: float) -> tuple[float, float]:
        """Return time, s, and draw of one GPU, W, of a step at a clock."""
        gpu, speed = self.profile, clock_mhz / self.profile.full_mhz
        step, v2 = parts.at(speed), gpu.voltage_share(clock_mhz) ** 2
        busy_w = gpu.core_w * v2 * speed * step.core + gpu.mem_w * step.mem
        return step.duration_s, gpu.settled_w(gpu.idle_w + gpu.static_w * v2 + busy_w)
