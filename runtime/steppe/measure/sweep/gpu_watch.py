"""Look at a replica's GPUs while it is measured: clock, heat, limits, and who else is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from steppe.device.nvml import NvmlGpu
from steppe.device.nvml_processes import compute_processes
from steppe.measure.sweep.subject import GpuLook


class GpuWatch:
    """The sensors of some GPUs of this host; reads only."""

    def __init__(
        self,
        gpus: Sequence[NvmlGpu],
        processes: Callable[[int], frozenset[int] | None] = compute_processes,
    ) -> None:
        """Watch these GPUs.

        Args:
            gpus: At least one.
            processes: Tells the pids on a GPU by its index.
        """
        self._gpus, self._processes = tuple(gpus), processes

    def look(self) -> GpuLook:
        """Read every sensor once.

        Raises:
            DeviceError: A GPU does not answer.
        """
        samples = [gpu.sample() for gpu in self._gpus]
        heats = [s.temperature_c for s in samples if s.temperature_c is not None]
        return GpuLook(
            clock_mhz=min(sample.sm_clock_mhz for sample in samples),
            temperature_c=max(heats, default=None),
            reasons=frozenset().union(*(sample.reasons for sample in samples)),
            processes=self.most_processes(),
        )

    def most_processes(self) -> int | None:
        """Return how many processes hold a context on the fullest GPU; None where unknown."""
        found = [self._processes(gpu.index) for gpu in self._gpus]
        return max((len(pids) for pids in found if pids is not None), default=None)
