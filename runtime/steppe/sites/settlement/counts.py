"""The metrics of settlements, for Prometheus.

Every counter begins at zero for each site: one that appears with its first event has no rise that
an alert could see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from steppe.ledger.receipt import ENERGY_SOURCES
from steppe.sites.settlement.compare import KINDS, PeriodComparison
from steppe.sites.trust.claims import Fits, Lied, Unheard, Verdict, Withheld

UJ_PER_J = 1e6
_VERDICTS = {Fits: "fits", Lied: "lied", Unheard: "unheard", Withheld: "withheld"}


class SettlementCounts:
    """Counts what a home has settled since the start of its service."""

    def __init__(self, sites: Iterable[str]) -> None:
        """Begin at zero for each of the other sites."""
        self._sites = tuple(sites)
        self._settled = _zeros(self._sites, ("yes", "no"))
        self._mismatches = _zeros(self._sites, KINDS)
        self._receipts = Counter(dict.fromkeys(self._sites, 0))
        self._more_uj = _zeros(self._sites, ENERGY_SOURCES)
        self._less_uj = _zeros(self._sites, ENERGY_SOURCES)
        self._verdicts = _zeros(self._sites, _VERDICTS.values())

    def note(self, target: str, compared: PeriodComparison) -> None:
        """Count a period that was settled with a target."""
        self._settled[target, "yes" if compared.agrees else "no"] += 1
        for each in compared.mismatches:
            self._mismatches[target, each.what] += 1
        for owed, _ in compared.accepted:
            self._receipts[target] += 1
            kind = self._more_uj if owed.owed_uj >= 0 else self._less_uj
            kind[target, owed.receipt.energy_source] += abs(owed.owed_uj)

    def note_verdict(self, site: str, verdict: Verdict) -> None:
        """Count an hour of claims that was judged."""
        self._verdicts[site, _VERDICTS[type(verdict)]] += 1

    def metrics(self, waiting: Collection[str]) -> list[Metric]:
        """Return the metrics.

        Args:
            waiting: The sites with which settlements do not go on.
        """
        receipts = CounterMetricFamily(
            "steppe_sites_settlement_receipts",
            "Receipts of a target that this site has accepted, corrections too.",
            labels=["site"],
        )
        for site, count in self._receipts.items():
            receipts.add_metric([site], count)
        waits = GaugeMetricFamily(
            "steppe_sites_settlement_waits",
            "1 while settlements with a site do not go on.",
            labels=["site"],
        )
        for site in self._sites:
            waits.add_metric([site], float(site in waiting))
        return [*self._counted(), receipts, self._owed(), waits]

    def _counted(self) -> list[Metric]:
        return [
            _family(
                "settlements",
                "Periods that this site has settled with a target, by whether both say the same.",
                "agrees",
                self._settled,
            ),
            _family(
                "settlement_mismatches",
                "What did not fit between notes of this site and receipts of a target, by its "
                "kind.",
                "what",
                self._mismatches,
            ),
            _family(
                "claims_judged",
                "Hours of a site whose claims were held against its signed meters: `fits`, "
                "`lied`, `unheard`, `withheld`.",
                "verdict",
                self._verdicts,
            ),
        ]

    def _owed(self) -> Metric:
        owed = CounterMetricFamily(
            "steppe_sites_owed_joules",
            "Energy of accepted receipts that this site owes a target, by where it is from; "
            "`less` is what corrections take back.",
            labels=["site", "source", "change"],
        )
        for change, found in (("more", self._more_uj), ("less", self._less_uj)):
            for (site, source), energy_uj in found.items():
                owed.add_metric([site, source, change], energy_uj / UJ_PER_J)
        return owed


def _zeros(sites: Iterable[str], kinds: Iterable[str]) -> Counter[tuple[str, str]]:
    names = tuple(kinds)
    return Counter({(site, kind): 0 for site in sites for kind in names})


def _family(name: str, text: str, label: str, counts: Counter[tuple[str, str]]) -> Metric:
    family = CounterMetricFamily(f"steppe_sites_{name}", text, labels=["site", label])
    for key, count in counts.items():
        family.add_metric(key, count)
    return family
