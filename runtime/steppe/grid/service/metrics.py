"""The metrics of the grid service in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from steppe.grid.limits.limit import Link
from steppe.grid.meters.part import SiteMeterPart
from steppe.grid.meters.site_meter import MeteredDraw
from steppe.grid.service.part import Part
from steppe.grid.service.refusals import Refusals


class GridMetrics(Collector):
    """Refusals by link, whether the controller answers, and the meter of the site."""

    def __init__(
        self,
        links: Sequence[Link],
        refusals: Refusals,
        parts: Sequence[Part],
        is_away: Callable[[], bool],
    ) -> None:
        """Read these at each call.

        Args:
            links: The links, which are shown from the start.
            refusals: What was refused.
            parts: The parts of the service, of which one may be the meter of the site.
            is_away: Returns whether the controller does not answer.
        """
        self._links, self._refusals, self._is_away = links, refusals, is_away
        self._meter = next((part for part in parts if isinstance(part, SiteMeterPart)), None)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def exposition(self) -> bytes:
        """Return all of them."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Yield each of them."""
        refused = CounterMetricFamily(
            "steppe_grid_refused", "Changes and messages that were refused.", labels=["link"]
        )
        counts = dict(self._refusals.counts)
        for link in sorted({link.name for link in self._links} | set(counts)):
            refused.add_metric([link], counts.get(link, 0))
        yield refused
        yield GaugeMetricFamily(
            "steppe_grid_controller_away",
            "1 while the controller of the fleet does not answer the service; its limits hold.",
            value=float(self._is_away()),
        )
        draw = None if self._meter is None else self._meter.latest
        if draw is not None:
            yield from _metered(draw)


def _metered(draw: MeteredDraw) -> Iterable[Metric]:
    watts = GaugeMetricFamily(
        "steppe_grid_site_meter_watts",
        "Draw of the site: metered at its connection point, and computed by Steppe.",
        labels=["of"],
    )
    watts.add_metric(["computed"], draw.computed_w)
    if draw.watts is not None:
        watts.add_metric(["metered"], draw.watts)
    yield watts
    if draw.age_s is not None:
        yield GaugeMetricFamily(
            "steppe_grid_site_meter_age_seconds",
            "Age of the last reading of the meter of the site.",
            value=draw.age_s,
        )
