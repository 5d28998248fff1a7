"""Emulated GPUs that behave as a recording says, or that show it again.

A recording comes from `steppe.device.recording`. Fitting keeps the power model of the profile and
takes over what the recording has: periods of the sensors, idle power, latencies of the limits.
Replaying shows the recorded readings through NVML; the model stands still meanwhile. Either way
the GPUs stay emulated and say so.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from steppe.emulator.library import Emulator
from steppe.errors import UsageError

# NVML's names hold these; the first that fits is the profile.
_NAMES = {
    "H200": "h200",
    "H100": "h100",
    "B200": "b200",
    "A100": "a100",
    "V100": "v100",
    "P40": "p40",
    "L4": "l4",
}


@dataclass(frozen=True, slots=True)
class ProfileOverrides:
    """What a recording has of a GPU; None where it has nothing and the profile stays.

    Attributes:
        idle_w: Power while no kernel ran, W; with that of a context, if one was held.
        energy_period_s: Time between two values of the energy counter, s.
        power_period_s: Time between two values of the instant power, s.
        lock_latency_s: From the call until a clock limit acts, s.
        limit_down_tau_s: Time constant of a falling power limit, s.
        limit_up_tau_s: Time constant of a rising power limit, s.
    """

    idle_w: float | None = None
    energy_period_s: float | None = None
    power_period_s: float | None = None
    lock_latency_s: float | None = None
    limit_down_tau_s: float | None = None
    limit_up_tau_s: float | None = None


def emulated_gpus(recording: Mapping[str, Any]) -> str:
    """Return the GPUs to emulate for a recording, such as "h100x1,h100x1".

    Raises:
        UsageError: It holds a GPU that no profile fits.
    """
    return ",".join(f"{_profile(gpu['capabilities']['name'])}x1" for gpu in recording["gpus"])


def fit_recording(gpu: Mapping[str, Any]) -> ProfileOverrides:
    """Return what a recording has of one GPU.

    A lag shorter than two periods of the power sensor cannot be seen in it, and stays as it is.
    """
    sensors, steps = gpu["sensors"], gpu.get("steps", {})
    power_period_s = _period_s(sensors, "instant_power_w")
    shortest_s = 2 * (power_period_s or 0.0)

    def lag_s(step: str, least_s: float) -> float | None:
        seen_s: float | None = steps.get(step, {}).get("lag_s")
        return seen_s if seen_s is not None and seen_s > least_s else None

    return ProfileOverrides(
        idle_w=_idle_w(sensors),
        energy_period_s=_period_s(sensors, "energy_j"),
        power_period_s=power_period_s,
        lock_latency_s=lag_s("clock_limit", 0.0),
        limit_down_tau_s=lag_s("power_limit_down", shortest_s),
        limit_up_tau_s=lag_s("power_limit_up", shortest_s),
    )


def apply_overrides(emulator: Emulator, index: int, overrides: ProfileOverrides) -> None:
    """Let an emulated GPU behave so.

    Raises:
        OutOfRangeError: There is no such GPU, or a number cannot be.
    """
    for name, value in dataclasses.asdict(overrides).items():
        if value is not None:
            emulator.set_constant(index, name, value)


class RecordingReplay:
    """The readings of a recording, shown by emulated GPUs in the same order."""

    def __init__(self, recording: Mapping[str, Any], emulator: Emulator) -> None:
        """Take a recording and the GPUs that `emulated_gpus` names for it."""
        self._emulator = emulator
        self._gpus = [gpu["sensors"] for gpu in recording["gpus"]]
        self.times_s = sorted(
            {t_s for gpu in self._gpus for sensor in gpu.values() for t_s in sensor["t_s"]}
        )
        """When any reading changes, s from the start of the recording."""

    def show(self, at_s: float) -> None:
        """Show what was read at this time; before the first reading of a sensor, that one."""
        for index, sensors in enumerate(self._gpus):
            average_w = _value_at(sensors, "average_power_w", at_s)
            instant_w = average_w
            if "instant_power_w" in sensors:
                instant_w = _value_at(sensors, "instant_power_w", at_s)
            self._emulator.show(
                index,
                counter_j=_value_at(sensors, "energy_j", at_s),
                instant_w=instant_w,
                average_w=average_w,
                clock_mhz=_value_at(sensors, "sm_clock_mhz", at_s),
            )

    def run(self, pause: Callable[[float], None]) -> None:
        """Show the whole recording; `pause` waits, s."""
        at_s = 0.0
        for t_s in self.times_s:
            pause(t_s - at_s)
            self.show(t_s)
            at_s = t_s


def _profile(name: str) -> str:
    for part, profile in _NAMES.items():
        if part in name:
            return profile
    raise UsageError(f"the recording has a {name!r}, found profiles {', '.join(_NAMES.values())}")


def _period_s(sensors: Mapping[str, Any], name: str) -> float | None:
    period_s: float | None = sensors.get(name, {}).get("period_s")
    return period_s


def _value_at(sensors: Mapping[str, Any], name: str, at_s: float) -> float:
    sensor = sensors.get(name)
    if not sensor or not sensor["values"]:
        return 0.0
    after = bisect.bisect_right(sensor["t_s"], at_s)
    return float(sensor["values"][max(0, after - 1)])


def _idle_w(sensors: Mapping[str, Any]) -> float | None:
    """Return the median power while the GPU said that nothing ran."""
    power = sensors.get("instant_power_w") or sensors["average_power_w"]
    if not sensors.get("utilisation", {}).get("values"):
        return None
    idle_w = [
        power_w
        for t_s, power_w in zip(power["t_s"], power["values"], strict=True)
        if _value_at(sensors, "utilisation", t_s) == 0.0
    ]
    return median(idle_w) if idle_w else None
