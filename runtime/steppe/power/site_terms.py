"""How the power of a site becomes power for its GPUs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SiteTerms:
    """The conversion from supply to GPU power.

    Attributes:
        reserve_w: Part of the supply that is never used, W; the battery has no reserve.
        fallback_w: Site budget while a supply is stale or missing, W.
        stale_s: Age at which the last value of a supply counts as stale, s of run time.
        pue: Site watts per node watt, without the fixed overhead.
        overhead_w: Site power that does not depend on the nodes, W.
        node_rest_w: Draw of all nodes beside their GPUs, W.
    """

    reserve_w: float
    fallback_w: float
    stale_s: float
    pue: float
    overhead_w: float
    node_rest_w: float = 0.0

    def left_w(self, supply_w: float) -> float:
        """Return the supply less the reserve, W."""
        return max(0.0, supply_w - self.reserve_w)

    def gpu_w(self, site_w: float) -> float:
        """Return the power left for the GPUs when the site may draw `site_w`, W."""
        return max(0.0, (site_w - self.overhead_w) / self.pue - self.node_rest_w)

    def site_w(self, gpu_w: float) -> float:
        """Return the draw of the site when the GPUs draw `gpu_w`, W."""
        return (gpu_w + self.node_rest_w) * self.pue + self.overhead_w
