"""The gateway's numbers in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from steppe.gateway.tally import FinishedRequest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class GatewayMetrics:
    """Counters and histograms over all requests; base units, counters end in `_total`.

    Output tokens are not among them: only the engines know of each, whether `usage` told or not.
    """

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._requests = Counter(
            "steppe_requests", "Requests that ended, by how.", ["finish"], registry=registry
        )
        self._rejections = Counter(
            "steppe_rejections", "Requests refused, by why.", ["reason"], registry=registry
        )
        self._prompt = Counter(
            "steppe_prompt_tokens",
            "Prompt tokens that a `usage` told, cached ones included.",
            registry=registry,
        )
        self._cached = Counter(
            "steppe_cached_tokens",
            "Those of them that came from the prefix cache.",
            registry=registry,
        )
        self._waiting = Gauge(
            "steppe_requests_waiting", "Requests that wait for a replica.", registry=registry
        )
        self._outstanding = Gauge(
            "steppe_requests_outstanding", "Requests at a replica.", ["replica"], registry=registry
        )
        self._ttft = Histogram(
            "steppe_time_to_first_token_seconds",
            "Arrival to first streamed text, waiting included.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._e2e = Histogram(
            "steppe_request_duration_seconds",
            "Arrival to last byte of answered requests, waiting included.",
            buckets=_SECONDS,
            registry=registry,
        )

    def count(self, ended: FinishedRequest) -> None:
        """Count a request that ended."""
        self._requests.labels(ended.finish).inc()
        self._prompt.inc(ended.prompt_tokens or 0)
        self._cached.inc(ended.cached_tokens or 0)
        if ended.ttft_s is not None:
            self._ttft.observe(ended.ttft_s)
        if ended.status < 400:
            self._e2e.observe(ended.e2e_s)

    def reject(self, reason: str) -> None:
        """Count a refusal."""
        self._rejections.labels(reason).inc()

    def exposition(self, waiting: int, outstanding: dict[str, int]) -> bytes:
        """Return all of it, with what waits and what is outstanding now."""
        self._waiting.set(waiting)
        self._outstanding.clear()
        for replica, count in outstanding.items():
            self._outstanding.labels(replica).set(count)
        return generate_latest(self._registry)
