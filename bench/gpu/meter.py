"""One GPU's meters, read through NVML by ctypes: no package needed, and no setting is changed."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

POLL_S = 0.001
TICK_TIMEOUT_S = 2.0


class NvmlError(Exception):
    """NVML failed."""


class Meter:
    """The first GPU of CUDA, read through NVML; no setting is changed."""

    def __init__(self, uuid: str | None) -> None:
        try:
            self._nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as error:
            raise NvmlError(f"asked for libnvidia-ml.so.1, found none: {error}") from error
        self._gpu = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        if uuid is None:
            self._call("nvmlDeviceGetHandleByIndex_v2", 0, ctypes.byref(self._gpu))
        else:
            self._call("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(self._gpu))

    def energy_j(self) -> float:
        """The energy counter, J."""
        return float(self._read("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong())) / 1e3

    def power_w(self) -> float:
        """The driver's own power reading, W: on most GPUs a mean over the last second."""
        return float(self._read("nvmlDeviceGetPowerUsage", ctypes.c_uint())) / 1e3

    def condition(self) -> dict[str, int]:
        """SM clock (MHz), temperature (degrees C) and reasons for lower clocks (NVML's bits)."""
        reasons = "nvmlDeviceGetCurrentClocksThrottleReasons"
        return {
            "sm_clock_mhz": self._read("nvmlDeviceGetClockInfo", ctypes.c_uint(), 1),
            "temperature_c": self._read("nvmlDeviceGetTemperature", ctypes.c_uint(), 0),
            "clock_reasons": self._read(reasons, ctypes.c_ulonglong()),
        }

    def names(self) -> dict[str, str]:
        """The card's name and the driver's version."""
        name, driver = (ctypes.create_string_buffer(96) for _ in range(2))
        self._call("nvmlDeviceGetName", self._gpu, name, 96)
        self._call("nvmlSystemGetDriverVersion", driver, 96)
        return {"gpu": name.value.decode(), "driver": driver.value.decode()}

    def edge(self) -> tuple[float, float]:
        """Wait for the counter's next tick; its time (s) and value (J)."""
        first, give_up_s = self.energy_j(), time.monotonic() + TICK_TIMEOUT_S
        while (now_j := self.energy_j()) == first:
            if time.monotonic() > give_up_s:
                raise NvmlError(f"the energy counter stood still for {TICK_TIMEOUT_S} s")
            time.sleep(POLL_S)
        return time.monotonic(), now_j

    def _read(self, function: str, into: Any, *arguments: int) -> Any:
        self._call(function, self._gpu, *arguments, ctypes.byref(into))
        return into.value

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._nvml, function)(*arguments)
        if code:
            raise NvmlError(f"{function}: NVML error {code}")


@contextmanager
def window(meter: Meter) -> Iterator[dict[str, Any]]:
    """Measure the block from a tick to a tick; the row is filled when it ends."""
    row: dict[str, Any] = {}
    start_s, start_j = meter.edge()
    yield row
    row["at_end"] = meter.condition()
    end_s, end_j = meter.edge()
    row |= {"window_s": end_s - start_s, "energy_j": end_j - start_j}
    row["draw_w"] = row["energy_j"] / row["window_s"]
