"""Metrics by tenant, for a bounded number of tenants."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from steppe.gateway.request import FinishedRequest

MOST_TENANTS = 200
"""Tenants with a label of their own; further ones count as `other`. Where no keys are configured
any client can invent names, and each one costs memory here and in Prometheus."""
OTHER = "other"


class TenantMetrics:
    """Requests, tokens, energy and refusals of each tenant."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Define the metrics in a registry."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"steppe_tenant_{name}", text, ("tenant", *labels), registry=registry)

        self._requests = counter("requests", "Finished requests by tenant and finish.", "finish")
        self._tokens = counter(
            "tokens", "Tokens of responses with a `usage`: `prompt`, `output`.", "kind"
        )
        self._energy = counter("energy_joules", "Energy of the requests in the books, J.")
        self._denied = counter(
            "denied",
            "Requests with a 401, 402, 403 or 429 of the gateway, by code; without a tenant for an "
            "unknown caller.",
            "code",
        )
        self._known: set[str] = set()

    def count(self, finished: FinishedRequest) -> None:
        """Count a finished request."""
        tenant = self._label(finished.tenant)
        self._requests.labels(tenant, finished.finish).inc()
        self._tokens.labels(tenant, "prompt").inc(finished.prompt_tokens or 0)
        self._tokens.labels(tenant, "output").inc(finished.output_tokens or 0)

    def add_energy(self, tenant: str, energy_j: float) -> None:
        """Add the energy of a request, J."""
        self._energy.labels(self._label(tenant)).inc(energy_j)

    def deny(self, tenant: str, code: str) -> None:
        """Count a refusal."""
        self._denied.labels(self._label(tenant) if tenant else "", code).inc()

    def _label(self, tenant: str) -> str:
        if tenant in self._known:
            return tenant
        if len(self._known) >= MOST_TENANTS:
            return OTHER
        self._known.add(tenant)
        return tenant
