"""Sensors of a replica's GPUs: clock, temperature, limits, and processes on the GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from steppe.device.nvml import NvmlGpu
from steppe.device.nvml_processes import compute_processes
from steppe.measure.sweep.subject import SensorReading


class GpuSensors:
    """The sensors of some GPUs of this host; reads only."""

    def __init__(
        self,
        gpus: Sequence[NvmlGpu],
        processes: Callable[[int], frozenset[int] | None] = compute_processes,
    ) -> None:
        """Take the GPUs to read.

        Args:
            gpus: At least one.
            processes: Returns the pids on a GPU by its index; None where they are unknown.
        """
        self._gpus, self._processes = tuple(gpus), processes

    def read(self) -> SensorReading:
        """Read every sensor once.

        Raises:
            DeviceError: A GPU does not answer.
        """
        samples = [gpu.sample() for gpu in self._gpus]
        temperatures = [s.temperature_c for s in samples if s.temperature_c is not None]
        return SensorReading(
            clock_mhz=min(sample.sm_clock_mhz for sample in samples),
            temperature_c=max(temperatures, default=None),
            reasons=frozenset().union(*(sample.reasons for sample in samples)),
            processes=self.most_processes(),
        )

    def most_processes(self) -> int | None:
        """Return the most processes that hold a context on one of the GPUs; None if unknown."""
        known = [self._processes(gpu.index) for gpu in self._gpus]
        return max((len(pids) for pids in known if pids is not None), default=None)
