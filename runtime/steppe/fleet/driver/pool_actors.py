"""One pool of a running fleet: what its frontier depends on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from steppe.config import RunConfig
from steppe.fleet.messages import GpuInfo, ReplicaTotals

IDLE_WINDOW_S = 1.5
"""How long the draw of idle replicas is measured, s."""


@dataclass(frozen=True, slots=True)
class PoolActors:
    """The replicas of one model on one kind of GPU.

    Attributes:
        name: Its name; empty where it is the only one.
        config: The configuration of its model alone.
        gpus: The GPUs of its replicas.
        replicas: Number of replicas, those without GPUs included.
        ready: Names of the replicas whose engines started at the begin, in their order.
        reading: Returns running totals of a replica.
    """

    name: str
    config: RunConfig
    gpus: tuple[GpuInfo, ...]
    replicas: int
    ready: tuple[str, ...]
    reading: Callable[[str], ReplicaTotals]

    @property
    def gpu_names(self) -> set[str]:
        """What NVML calls its GPUs."""
        return {gpu.name for gpu in self.gpus}

    @property
    def can_limit_clocks(self) -> bool:
        """Whether the clock of any GPU can be limited; plans count those that cannot."""
        return any(gpu.clocks_mhz for gpu in self.gpus)

    @property
    def common_clocks_mhz(self) -> tuple[int, ...]:
        """SM clocks that every GPU can be limited to, ascending, MHz; empty if there are none.

        GPUs whose clock cannot be limited do not count.
        """
        clocks = [set(gpu.clocks_mhz) for gpu in self.gpus if gpu.clocks_mhz]
        return tuple(sorted(set.intersection(*clocks))) if clocks else ()

    def measure_idle_w(self) -> float:
        """Measure what an idle replica draws under its present limits, W: the largest."""
        before = {name: self.reading(name) for name in self.ready}
        time.sleep(IDLE_WINDOW_S)
        draws_w = [0.0]
        for name, start in before.items():
            end = self.reading(name)
            if end.time_s > start.time_s:
                draws_w.append((end.energy_j - start.energy_j) / (end.time_s - start.time_s))
        return max(draws_w)
