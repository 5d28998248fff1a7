"""The controller's numbers in Prometheus's text format: base units, counters end in _total."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from steppe.energy.window import worst
from steppe.report.records import ShortageTick, TickRecord
from steppe.report.shortages import WORDS

STATES = ("starting", "awake", "draining", "asleep", "gone")


class Exposition:
    """Gauges and counters of the fleet."""

    def __init__(self, energy_source: str) -> None:
        """Make the metrics; every energy carries its source as a label.

        Args:
            energy_source: How well the meters find joules while all goes well.
        """
        self.registry = CollectorRegistry()
        self._source = energy_source

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"steppe_{name}", text, labels, registry=self.registry)

        self._supply = gauge("power_supply_watts", "Power offered at the site")
        self._stale = gauge(
            "power_supply_stale", "1 while a source is not known: the fallback holds"
        )
        self._curtailed = gauge("power_curtailed_watts", "Supply that nobody took, at the site")
        self._budget = gauge("power_budget_watts", "Power that the GPUs may draw")
        self._draw = gauge("power_watts", "Mean draw of the GPUs", "replica", "source")
        self._clock = gauge("gpu_clock_limit_hertz", "SM clock limit", "replica")
        self._batch = gauge("batch_limit", "Most sequences decoded at once", "replica")
        self._replicas = gauge("replicas", "Replicas by state", "state")
        self._running = gauge("requests_running", "Requests in the engines")
        self._charge = gauge("battery_charge_ratio", "Energy in the battery, share of it", "at")
        self._given = gauge("battery_watts", "What the battery gives; takes, below 0", "at")
        self._feasible = gauge("budget_feasible", "1 while a sleeping fleet fits the budget")
        self._short = gauge("shortage_watts", "Missing at the worst, now or to come; 0: none", "of")
        self._begins = gauge("shortage_begins_seconds", "Time until it begins; 0: here", "of")
        self._ends = gauge("shortage_ends_seconds", "Time until it ends, where that is seen", "of")
        self._energy = Counter(
            "steppe_energy_joules", "Energy of the GPUs", ("source",), registry=self.registry
        )
        self._tokens = Counter(
            "steppe_output_tokens", "Tokens sampled by the engines", registry=self.registry
        )

    def update(self, tick: TickRecord, qualities: Iterable[str] = ()) -> bytes:
        """Take a tick, with the qualities of its windows, and return the exposition."""
        source = worst((self._source, *qualities))
        self._supply.set(tick.supply_w)
        self._stale.set(tick.stale)
        self._curtailed.set(tick.curtailed_w)
        self._budget.set(tick.budget_w)
        self._running.set(tick.running)
        if tick.battery is not None:
            self._charge.labels("site").set(tick.battery.share)
            self._given.labels("site").set(tick.battery.power_w)
        self._show(tick.shortages)
        self._energy.labels(source).inc(max(0.0, tick.energy_j))
        self._tokens.inc(tick.output_tokens)
        for state in STATES:
            self._replicas.labels(state).set(sum(r.state == state for r in tick.replicas))
        for gauge in (self._draw, self._clock, self._batch):
            gauge.clear()  # a replica whose node was lost must not stay in a sum over replicas
        for replica in tick.replicas:
            self._draw.labels(replica.id, source).set(replica.draw_w)
            self._clock.labels(replica.id).set(replica.clock_mhz * 1e6)
            self._batch.labels(replica.id).set(replica.batch_limit)
        return generate_latest(self.registry)

    def _show(self, shortages: Sequence[ShortageTick]) -> None:
        """Show what is short; the times of what is not are absent, and so is an end not seen."""
        self._feasible.set(not any(s.of == "floor" and s.is_here for s in shortages))
        for gauge in (self._begins, self._ends):
            gauge.clear()
        for of in WORDS:
            self._short.labels(of).set(0.0)
        for shortage in shortages:
            self._short.labels(shortage.of).set(shortage.short_w)
            self._begins.labels(shortage.of).set(shortage.begins_in_s)
            if shortage.ends_in_s is not None:
                self._ends.labels(shortage.of).set(shortage.ends_in_s)
