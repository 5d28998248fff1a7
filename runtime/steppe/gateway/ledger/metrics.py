"""Metrics of what the gateway asks the ledger."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from steppe.gateway.ledger.link import UNAVAILABLE, Admitted, Verdict

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)


class LedgerLinkMetrics:
    """Counts the answers of the ledger, and how long they take."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Define the metrics in a registry."""
        self._verdicts = Counter(
            "steppe_gateway_ledger_answers",
            "Requests that the ledger was asked about, by its answer: `granted`, the code of its "
            "refusal, or `ledger_unavailable`.",
            ["answer"],
            registry=registry,
        )
        self._seconds = Histogram(
            "steppe_gateway_ledger_seconds",
            "Time until the ledger has answered; a request waits for it before its first byte.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._scarce = Counter(
            "steppe_gateway_ledger_scarce",
            "Requests that no replica gets before the ledger has answered, because what their "
            "tenant has is little or unknown.",
            registry=registry,
        )

    def note(self, verdict: Verdict, seconds: float) -> None:
        """Count an answer, and the time that it took, s."""
        answer = "granted" if isinstance(verdict, Admitted) else verdict.code
        self._verdicts.labels(answer).inc()
        if answer != UNAVAILABLE:
            self._seconds.observe(seconds)

    def wait(self) -> None:
        """Count a request that waits for the answer before a replica gets it."""
        self._scarce.inc()
