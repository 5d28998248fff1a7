"""The connections of other sites to the door: how many, and how long one may take."""

from __future__ import annotations

from collections import Counter

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from steppe.services.connections import HTTP_LIMITS, ConnectionGuard, HttpLimits

WRITE_S = 60.0
"""Longest time that another site may read nothing of an answer, s."""


class DoorConnections:
    """Limits the connections, from before their handshake on, and counts them.

    Attributes:
        guard: Guards the door.
    """

    def __init__(self, limits: HttpLimits = HTTP_LIMITS) -> None:
        """Begin without connections."""
        self._cut_off: Counter[str] = Counter()
        self.guard = ConnectionGuard(limits, WRITE_S, on_cut_off=self._count)

    def metrics(self) -> list[Metric]:
        """Return the metrics."""
        cut_off = CounterMetricFamily(
            "steppe_sites_cut_off",
            "Connections to the door for sites that were refused (`connections`, "
            "`connections_per_client`) or cut off (`handshake`, `headers`, `slow_reader`).",
            labels=["reason"],
        )
        for reason, count in sorted(self._cut_off.items()):
            cut_off.add_metric([reason], count)
        help_ = "Open connections of other sites, those in their handshake included."
        now = GaugeMetricFamily("steppe_sites_connections", help_, value=len(self.guard))
        return [cut_off, now]

    def _count(self, reason: str) -> None:
        self._cut_off[reason] += 1
