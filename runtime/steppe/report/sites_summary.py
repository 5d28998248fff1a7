"""What several sites achieved: energy, cost, carbon, and what their clients got."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from typing import TypedDict

from steppe.report.latency import Percentiles, percentiles
from steppe.report.records import Slo
from steppe.report.sites_energy import SiteEnergy
from steppe.report.sites_records import SiteCall


class SiteSummary(TypedDict):
    """One site, or all of them; `docs/sites/simulation.md` has a line on each key."""

    energy_j: float
    own_supply_j: float
    grid_j: float
    green_share: float | None
    own_used_share: float | None
    cost: float
    carbon_g: float
    over_budget_j: float
    most_over_budget_w: float
    output_tokens: int
    requests: int
    served: int
    refused: int
    failed: int
    cancelled: int
    moved_share: float | None
    refusals: int
    continued: int
    prompt_tokens: int
    cached_share: float | None
    lost_tokens: int
    lost_share: float | None
    ttft_s: Percentiles
    interactive_ttft_s: Percentiles
    slo_attainment: float | None
    reasons: dict[str, int]


class SitesSummary(TypedDict):
    """A run of several sites."""

    routing: str
    duration_s: float
    requests: int
    currency: str
    energy_source: str
    boundary: str
    sites: dict[str, SiteSummary]
    total: SiteSummary
    versions: dict[str, str]


class ClientTotals:
    """What the clients of one site, or of all, got; only times are kept of each request."""

    def __init__(self, slo: Slo) -> None:
        """Begin without requests; `slo` is what they are judged by."""
        self._slo = slo
        self.finishes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.moved = self.refusals = self.continued = 0
        self.prompt_tokens = self.cached_tokens = self.lost_tokens = 0
        self._ttft_s, self._interactive_s = array("d"), array("d")
        self._good = self._judged = 0

    def add(self, call: SiteCall) -> None:
        """Add a request that has ended."""
        self.finishes[call.finish] += 1
        self.reasons[call.why] += 1
        self.refusals += len(call.refusals)
        self.continued += call.continued
        if call.is_served:
            self.moved += call.is_moved
            self.prompt_tokens += call.prompt_tokens
            self.cached_tokens += call.cached_tokens
            self.lost_tokens += call.lost_tokens
        if call.priority == "deferrable" or call.finish == "cancelled":
            return
        self._judged += 1
        if call.is_served and call.ttft_s is not None:
            self._good += self._is_in_time(call, call.ttft_s)
            self._ttft_s.append(call.ttft_s)
            if call.priority == "interactive":
                self._interactive_s.append(call.ttft_s)

    def _is_in_time(self, call: SiteCall, ttft_s: float) -> bool:
        steps = max(1, call.output_tokens - 1)
        return ttft_s <= self._slo.ttft_s and (call.e2e_s - ttft_s) / steps <= self._slo.tpot_s

    def summary(self, energies: tuple[SiteEnergy, ...]) -> SiteSummary:
        """Return it together with the energy of the same sites."""
        ends, served = self.finishes, self.finishes["length"]
        energy_j, grid_j, own_j = (
            sum(getattr(each, name) for each in energies)
            for name in ("energy_j", "grid_j", "own_j")
        )
        return SiteSummary(
            energy_j=energy_j,
            own_supply_j=own_j,
            grid_j=grid_j,
            green_share=_share(energy_j - grid_j, energy_j),
            own_used_share=_share(energy_j - grid_j, own_j),
            cost=sum(each.cost for each in energies),
            carbon_g=sum(each.carbon_g for each in energies),
            over_budget_j=sum(each.over_j for each in energies),
            most_over_budget_w=max(each.most_over_w for each in energies),
            output_tokens=sum(each.output_tokens for each in energies),
            requests=ends.total(),
            served=served,
            refused=sum(ends[e] for e in ("rejected", "shed", "forbidden", "unreachable")),
            failed=ends["failed"],
            cancelled=ends["cancelled"],
            moved_share=_share(self.moved, served),
            refusals=self.refusals,
            continued=self.continued,
            prompt_tokens=self.prompt_tokens,
            cached_share=_share(self.cached_tokens, self.prompt_tokens),
            lost_tokens=self.lost_tokens,
            lost_share=_share(self.lost_tokens, self.prompt_tokens),
            ttft_s=percentiles(self._ttft_s),
            interactive_ttft_s=percentiles(self._interactive_s),
            slo_attainment=_share(self._good, self._judged),
            reasons=dict(sorted(self.reasons.items())),
        )


class SitesTotals:
    """What all sites and all clients did.

    Attributes:
        energies: The energy of each site, by its name.
    """

    def __init__(self, energies: Mapping[str, SiteEnergy], slos: Mapping[str, Slo]) -> None:
        """Begin without requests.

        Args:
            energies: The energy of each site, which goes on.
            slos: What the requests of each site are judged by.
        """
        self.energies = energies
        self._clients = {name: ClientTotals(slo) for name, slo in slos.items()}
        self._all = ClientTotals(next(iter(slos.values())))

    def add(self, call: SiteCall) -> None:
        """Add a request of a client."""
        self._clients[call.home].add(call)
        self._all.add(call)

    def sites(self) -> dict[str, SiteSummary]:
        """Return what each site did."""
        return {name: c.summary((self.energies[name],)) for name, c in self._clients.items()}

    def total(self) -> SiteSummary:
        """Return what all of them did together."""
        return self._all.summary(tuple(self.energies.values()))


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
