"""What a gateway counts of other sites, for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from steppe.sites.notes import Notes
from steppe.sites.peer import TryOutcome


class RouterCounts:
    """Choices and tries since the gateway began."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._choices: Counter[tuple[str, str]] = Counter()
        self._ends: Counter[tuple[str, str]] = Counter()
        self._tokens: Counter[tuple[str, str]] = Counter()

    def choose(self, site: str, reason: str) -> None:
        """Count a choice."""
        self._choices[site, reason] += 1

    def end(self, site: str, outcome: TryOutcome) -> None:
        """Count the end of a try at another site."""
        self._ends[site, outcome.end] += 1
        self._tokens[site, "prompt"] += outcome.prompt_tokens
        self._tokens[site, "output"] += outcome.output_tokens

    def metrics(
        self,
        *,
        sites: Iterable[str],
        usable: Collection[str],
        resting: Collection[str],
        age_s: float,
        moved: int,
        notes: Notes,
    ) -> list[Metric]:
        """Return the metrics.

        Args:
            sites: All other sites.
            usable: Those that may get work.
            resting: Those that refused lately.
            age_s: Age of the state of the sites service, s.
            moved: Conversations that moved to another site.
            notes: What waits for the sites service.
        """
        known = sorted(sites)
        return [
            _counter(
                "requests",
                "Choices of a site, by the site and the reason: `alone`, `cost`, `forbidden`, "
                "`full`, `green`, `pinned`, `plan`, `slo`, `tried`.",
                ("site", "reason"),
                self._choices,
            ),
            _counter(
                "hops",
                "Requests sent to another site, by how they ended: `served`, `refused`, `lost`, "
                "`cancelled`, `unreachable`.",
                ("site", "end"),
                self._ends,
            ),
            _counter(
                "tokens",
                "Tokens of requests at another site: `prompt`, `output`.",
                ("site", "kind"),
                self._tokens,
            ),
            _counter("conversations_moved", "Conversations that moved to another site.", (), moved),
            _counter("notes_sent", "Notes of requests that the sites service has.", (), notes.sent),
            _counter("notes_dropped", "Notes of requests that were lost.", (), notes.dropped),
            _gauge("notes_waiting", "Notes that wait for the sites service.", len(notes)),
            _gauge("state_age_seconds", "Age of the state of the sites service, s.", age_s),
            _of_sites("usable", "1 if a site may get work, else 0.", known, usable),
            _of_sites("resting", "1 if a site refused lately, else 0.", known, resting),
        ]


def _counter(
    name: str, text: str, labels: tuple[str, ...], counts: Counter[tuple[str, str]] | int
) -> Metric:
    family = CounterMetricFamily(f"steppe_sites_{name}", text, labels=labels)
    if isinstance(counts, int):
        family.add_metric([], counts)
    else:
        for key, count in sorted(counts.items()):
            family.add_metric(key, count)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"steppe_sites_{name}", text, value=value)


def _of_sites(name: str, text: str, sites: Iterable[str], found: Collection[str]) -> Metric:
    family = GaugeMetricFamily(f"steppe_sites_{name}", text, labels=["site"])
    for site in sites:
        family.add_metric([site], float(site in found))
    return family
