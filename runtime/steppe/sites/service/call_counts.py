"""Calls of other sites, counted for Prometheus and for the limits of the door."""

from __future__ import annotations

from collections import Counter

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily


class CallCounts:
    """Counts the calls of each site."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._open: Counter[str] = Counter()
        self._ends: Counter[tuple[str, str]] = Counter()

    @property
    def open(self) -> int:
        """Calls that are open."""
        return self._open.total()

    def open_of(self, site: str) -> int:
        """Return the calls of a site that are open."""
        return self._open[site]

    def begin(self, site: str) -> None:
        """Count a call as open."""
        self._open[site] += 1

    def close(self, site: str) -> None:
        """Count a call as open no longer."""
        self._open[site] -= 1

    def end(self, site: str, how: str) -> None:
        """Count how a call ended; an empty name is that of an unknown caller."""
        self._ends[site, how] += 1

    def metrics(self) -> list[Metric]:
        """Return the metrics."""
        ends = CounterMetricFamily(
            "steppe_sites_calls_received",
            "Calls of other sites by how they ended: `answered`, `broken`, `left`, or why they "
            "were refused.",
            labels=["site", "end"],
        )
        for key, count in sorted(self._ends.items()):
            ends.add_metric(key, count)
        now = GaugeMetricFamily(
            "steppe_sites_calls_open", "Calls of other sites that are open.", labels=["site"]
        )
        for site, count in sorted(self._open.items()):
            now.add_metric([site], count)
        return [ends, now]
