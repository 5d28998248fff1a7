"""What one site gives the plan of all sites: the live heartbeats, as sites and flows.

Each site solves the same program on about the same heartbeats, and takes its own leases from it.
Round trips between two other sites are not known here; they count with the way over this site.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steppe.sites.plan.solve import plan_sites
from steppe.sites.plan.terms import Flow, PlanSite, PlanTerms, SitesPlan, Way, site_of
from steppe.sites.prepared import Weights
from steppe.sites.view import Demand, SiteView

MARGIN = 1.25
"""Flows count with so much more than was asked for in the last minute, which is a mean."""
MOST_FLOWS, LEAST_FLOWS = 512, 3
"""Most flows of a plan, but at least so many of each site: those with the most tokens."""
_STEP_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """What is known of the sites that a plan is for.

    Attributes:
        here: This site.
        peers: The other sites that may get work.
        rtt_s: Round trips to them, s.
        ttft_s: Longest time to the first token of the SLO of each model here, s.
        step_s: Length of a step, s.
    """

    here: SiteView
    peers: tuple[SiteView, ...]
    rtt_s: Mapping[str, float]
    ttft_s: Mapping[str, float]
    step_s: float

    def plan(self, last: Mapping[Way, float] | None) -> SitesPlan | None:
        """Return the best quotas; None if this site or all others show no forecast of these steps.

        Args:
            last: Quotas of the last plan; None for the first one.

        Raises:
            InfeasibleError: The solver finds none.
        """
        views = [view for view in (self.here, *self.peers) if self._fits(view)]
        if len(views) < 2 or views[0] is not self.here:
            return None
        steps = len(self.here.forecast)
        sites = [site_of(view, Weights().money_per_g) for view in views]
        most = max(LEAST_FLOWS, MOST_FLOWS // len(views))
        flows = [flow for view in views for flow in self._flows(view, steps)[:most]]
        terms = PlanTerms(step_s=self.step_s)
        return plan_sites(sites, flows, self._trips(sites), terms, last)

    def _fits(self, view: SiteView) -> bool:
        """Return whether the forecast of a site has the steps of this one."""
        forecast = view.forecast
        if not forecast or len(forecast) != len(self.here.forecast):
            return False
        length_s = (forecast[-1].start_s - forecast[0].start_s) / max(1, len(forecast) - 1)
        return math.isclose(length_s, self.step_s, rel_tol=_STEP_SHARE)

    def _flows(self, view: SiteView, steps: int) -> list[Flow]:
        """Return what comes to a site, the most first; it is taken to go on as it is."""
        asked = sorted(view.demand or _served(view), key=lambda each: -each.output_tps)
        return [
            Flow(
                origin=view.site,
                model=each.model,
                priority=each.priority,
                regions=each.regions,
                data_class=each.data_class,
                output_tps=[MARGIN * each.output_tps] * steps,
                ttft_s=self.ttft_s.get(each.model, math.inf),
            )
            for each in asked
            if each.output_tps > 0.0
        ]

    def _trips(self, sites: Sequence[PlanSite]) -> dict[tuple[str, str], float]:
        """Return the round trips between all sites; those of others over this one, s."""
        here = self.here.site
        rtt_s = {here: 0.0, **self.rtt_s}
        names = [site.name for site in sites if site.name in rtt_s]
        return {(a, b): rtt_s[a] + rtt_s[b] for a in names for b in names if a != b}


def _served(view: SiteView) -> list[Demand]:
    """Return what a site serves now as standard requests, if it does not show its demand."""
    data_class = min(view.data_classes, default="")
    return [
        Demand(
            pool.model,
            "standard",
            frozenset([view.region]),
            data_class,
            (pool.capacity_tps - pool.free_tps) / MARGIN,
        )
        for pool in view.pools.values()
    ]
