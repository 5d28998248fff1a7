"""The gateway's numbers in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from steppe.gateway.request_tracker import FinishedRequest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class GatewayMetrics:
    """Counters and histograms over all requests; base units, counters end in `_total`.

    Output tokens are not among them: only the engines know of each, whether `usage` told or not.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"steppe_{name}", text, labels, registry=self._registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"steppe_{name}", text, labels, registry=self._registry)

        def seconds(name: str, text: str) -> Histogram:
            return Histogram(f"steppe_{name}", text, buckets=_SECONDS, registry=self._registry)

        self._requests = counter("requests", "Requests that ended, by how.", "finish")
        self._rejections = counter("rejections", "Requests refused, by why.", "reason")
        self._prompt = counter(
            "prompt_tokens", "Prompt tokens that a `usage` told, cached ones included."
        )
        self._cached = counter("cached_tokens", "Those of them that came from the prefix cache.")
        self._waiting = gauge("requests_waiting", "Requests that wait for a replica.")
        self._outstanding = gauge("requests_outstanding", "Requests at a replica.", "replica")
        self._ttft = seconds(
            "time_to_first_token_seconds", "Arrival to first streamed text, waiting included."
        )
        self._e2e = seconds(
            "request_duration_seconds",
            "Arrival to last byte of answered requests, waiting included.",
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
