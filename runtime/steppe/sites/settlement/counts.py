"""The metrics of settlements, for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from steppe.sites.settlement.compare import Compared


class SettlementCounts:
    """Counts what a home has settled since the start of its service."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._settled: Counter[tuple[str, bool]] = Counter()
        self._mismatches: Counter[tuple[str, str]] = Counter()

    def note(self, target: str, compared: Compared) -> None:
        """Count a period that was settled with a target."""
        self._settled[target, compared.agrees] += 1
        for each in compared.mismatches:
            self._mismatches[target, each.what] += 1

    def metrics(self, sites: Iterable[str], waiting: Collection[str]) -> list[Metric]:
        """Return the metrics.

        Args:
            sites: The other sites.
            waiting: Those with which settlements do not go on.
        """
        settled = CounterMetricFamily(
            "steppe_sites_settlements",
            "Periods that this site has settled with a target, by whether both say the same.",
            labels=["site", "agrees"],
        )
        for (site, agrees), count in sorted(self._settled.items()):
            settled.add_metric([site, "yes" if agrees else "no"], count)
        mismatches = CounterMetricFamily(
            "steppe_sites_settlement_mismatches",
            "What did not fit between notes of this site and receipts of a target, by its kind.",
            labels=["site", "what"],
        )
        for (site, what), count in sorted(self._mismatches.items()):
            mismatches.add_metric([site, what], count)
        waits = GaugeMetricFamily(
            "steppe_sites_settlement_waits",
            "1 while settlements with a site do not go on.",
            labels=["site"],
        )
        for site in sites:
            waits.add_metric([site], float(site in waiting))
        return [settled, mismatches, waits]
