"""The energy beside the GPU boards that a replica is charged, by the boundary of the run."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.config import SiteSection
from steppe.energy.gpu_meters import EnergyHistory
from steppe.energy.window import EnergyWindow, Quality, worst

_NOTHING = EnergyWindow(0.0, 0.0, 0.0, 0.0, Quality.COUNTER)


@dataclass(frozen=True, slots=True)
class Boundary:
    """What the joules of a node's replicas enclose beside its GPU boards.

    A replica is charged the share of its node that its GPUs are of those in use there: what is
    beside the GPUs runs for all of them, whatever their load.

    Attributes:
        site: The boundary, the power usage effectiveness.
        rest: What the node draws beside its GPUs.
        overhead_w: The node's part of the overhead of the site, W.
    """

    site: SiteSection
    rest: EnergyHistory
    overhead_w: float = 0.0

    def beside(self, gpus: EnergyWindow, share: float) -> EnergyWindow:
        """Return the energy beside the GPUs of a replica in a window.

        Args:
            gpus: The energy of its GPUs.
            share: Its share of the node, 0 to 1.
        """
        if self.site.boundary == "gpu" or gpus.end_s <= gpus.start_s:
            return _NOTHING
        rest = self.rest.window(gpus.start_s, gpus.end_s)
        energy_j, error_j, quality = share * rest.energy_j, share * rest.error_j, rest.quality
        if self.site.boundary == "site":  # PUE and overhead are stated
            span_s, loss = gpus.end_s - gpus.start_s, self.site.pue - 1.0
            energy_j += loss * (gpus.energy_j + energy_j) + share * self.overhead_w * span_s
            error_j += loss * (gpus.error_j + error_j)
            quality = worst((quality, Quality.ESTIMATED))
        return EnergyWindow(gpus.start_s, gpus.end_s, energy_j, error_j, quality, True)
