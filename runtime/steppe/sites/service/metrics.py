"""The metrics of the sites service in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from steppe.sites.beats.peers import Health
from steppe.sites.quotas import QuotaLease
from steppe.sites.state import SitesState
from steppe.sites.view import SiteView

ReadMetrics = Callable[[], Iterable[Metric]]
"""Returns the metrics of a part."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the service counts.

    Attributes:
        sent: Exchanges of beats that were begun.
        refused: Beats that were refused.
        losses: How often each site was lost.
        notes: Notes of requests that were sent to other sites.
        plans: Plans that were made.
        plan_failures: Plans that could not be made.
        plan_s: How long the last plan took, s.
        certificate_s: Life that is left of the certificate, s.
        is_away: Whether the gateway does not say how this site is.
        ages_s: Age of the last beat of each site that was heard, s.
    """

    sent: int
    refused: int
    losses: dict[str, int]
    notes: int
    plans: int
    plan_failures: int
    plan_s: float
    certificate_s: float
    is_away: bool
    ages_s: dict[str, float]


class SitesMetrics(Collector):
    """Beats, the other sites, leases, plans, and what the parts of the service add."""

    def __init__(
        self,
        read_state: Callable[[], SitesState],
        read_counts: Callable[[], Counts],
        parts: Sequence[ReadMetrics],
    ) -> None:
        """Read these at each call."""
        self._read_state, self._read_counts, self._parts = read_state, read_counts, parts
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def exposition(self) -> bytes:
        """Return all of them."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Yield each of them."""
        state = self._read_state()
        yield from _of_counts(self._read_counts())
        yield from _of_sites(state)
        yield _of_leases(state.leases)
        for read in self._parts:
            yield from read()


def _of_counts(counts: Counts) -> Iterable[Metric]:
    for name, text, value in (
        ("beats_sent", "Exchanges of beats that this site began.", counts.sent),
        ("beats_refused", "Beats of other sites that were refused.", counts.refused),
        ("requests_noted", "Tries of requests at other sites that were noted.", counts.notes),
        ("plans", "Plans of quotas between sites.", counts.plans),
        ("plan_failures", "Plans that could not be made.", counts.plan_failures),
    ):
        yield CounterMetricFamily(f"steppe_sites_{name}", text, value=value)
    for name, text, level in (
        ("plan_seconds", "Time that the last plan took.", counts.plan_s),
        (
            "certificate_seconds",
            "Life that is left of the certificate of this site; negative once it has ended.",
            counts.certificate_s,
        ),
        (
            "gateway_away",
            "1 while the gateway does not say how this site is: it shows no room to other sites.",
            float(counts.is_away),
        ),
    ):
        yield GaugeMetricFamily(f"steppe_sites_{name}", text, value=level)
    losses = CounterMetricFamily(
        "steppe_sites_losses",
        "How often a site was lost: three beats did not come.",
        labels=["site"],
    )
    for site, count in counts.losses.items():
        losses.add_metric([site], count)
    yield losses
    ages = _gauge("beat_age_seconds", "Age of the last beat of each other site that was heard.")
    for site, age_s in counts.ages_s.items():
        ages.add_metric([site], age_s)
    yield ages


def _of_sites(state: SitesState) -> Iterable[Metric]:
    health = GaugeMetricFamily(
        "steppe_sites_health",
        "1 for the health of each other site; only a `live` one gets work.",
        labels=["site", "health"],
    )
    trip = _gauge("round_trip_seconds", "Least of the last 100 round trips.")
    suspect = _gauge("suspect", "1 while a site gets no new work because of what it claimed.")
    for peer in state.peers:
        for each in Health:
            health.add_metric([peer.site, each], float(peer.health is each))
        trip.add_metric([peer.site], peer.rtt_s)
        suspect.add_metric([peer.site], float(peer.site in state.suspects))
    yield from (health, trip, suspect)
    shown = (state.here, *(peer.view for peer in state.peers))
    yield from _of_powers(view for view in shown if view is not None)


def _of_powers(views: Iterable[SiteView]) -> Iterable[Metric]:
    budget = _gauge("budget_watts", "Budget of the GPUs that each site shows.")
    draw = _gauge("draw_watts", "Draw of the GPUs that each site shows.")
    headroom = _gauge("headroom_watts", "Headroom that each site shows.")
    surplus = _gauge("surplus_watts", "Surplus that each site shows.")
    for view in views:
        budget.add_metric([view.site], view.budget_w)
        draw.add_metric([view.site], view.draw_w)
        headroom.add_metric([view.site], view.headroom_w)
        surplus.add_metric([view.site], view.surplus_w)
    return (budget, draw, headroom, surplus)


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"steppe_sites_{name}", text, labels=["site"])


def _of_leases(leases: Iterable[QuotaLease]) -> Metric:
    found = GaugeMetricFamily(
        "steppe_sites_lease_tokens_per_second",
        "Output tokens per second that may be sent to another site.",
        labels=["site", "model", "priority"],
    )
    for lease in leases:
        found.add_metric([lease.site, lease.model, lease.priority], lease.output_tps)
    return found
