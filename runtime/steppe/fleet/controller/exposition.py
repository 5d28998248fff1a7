"""The controller's metrics in Prometheus's text format: base units, counters end in _total."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)

from steppe.control.shortage_forecast import WORDS
from steppe.control.sleep_ladder import SleepDepth
from steppe.control.state import Learned, Observation, ReplicaState
from steppe.energy.attribution import UJ_PER_J
from steppe.energy.window import worst
from steppe.fleet.controller.samples import Labels, Samples
from steppe.fleet.messages import ReplicaReport
from steppe.report.records import GridTick, ShortageTick, TickRecord

NO_LIMITS: Mapping[str, float] = MappingProxyType({})
STATES = ("starting", "awake", "draining", "asleep", "gone", "quarantined")

# A `_created` sample beside each counter says when this process began, which is of no use here.
disable_created_metrics()  # type: ignore[no-untyped-call]
NO_MODELS: Mapping[str, str] = {}


class Exposition:
    """Gauges and counters of the fleet."""

    def __init__(
        self, energy_source: str, boundary: str = "gpu", models: Mapping[str, str] = NO_MODELS
    ) -> None:
        """Create the metrics; all energy and power of GPUs carries its source as a label.

        Args:
            energy_source: Worst energy quality while no meter fails.
            boundary: What joules enclose: `gpu`, `node` or `site`.
            models: The model that each replica serves, by its name.
        """
        self._boundary = boundary
        self.registry = CollectorRegistry()
        self._source, self._models = energy_source, models
        self._define_fleet()
        self._define_demand()
        self._define_supply()
        self._define_grid()
        self._define_gpus()
        self._define_totals()
        self._define_replicas()

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"steppe_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"steppe_{name}", text, labels, registry=self.registry)

    def _define_fleet(self) -> None:
        """Define what the fleet draws and does."""
        self._supply = self._gauge("power_supply_watts", "Power offered at the site")
        self._stale = self._gauge(
            "power_supply_stale", "1 while a supply is stale or missing and the fallback applies"
        )
        self._curtailed = self._gauge("power_curtailed_watts", "Unused supply at the site")
        self._budget = self._gauge("power_budget_watts", "Power that the GPUs may draw")
        self._rest = self._gauge(
            "power_node_rest_watts",
            "Draw of the nodes beside the GPUs: measured, stated, or stated while a meter is stale",
            "source",
        )
        self._replicas = self._gauge("replicas", "Replicas by state", "state")
        self._depths = self._gauge("replicas_asleep", "Sleeping replicas by depth", "depth")
        self._wakes = self._gauge(
            "wake_seconds", "Time from a depth of sleep until a replica serves", "depth", "quantile"
        )
        self._quarantined = self._gauge(
            "replica_quarantined", "1 for a replica that is not started again", "replica", "fault"
        )
        self._took = self._gauge(
            "tick_seconds", "How long the controller worked on a tick, the one before the last"
        )
        self._running = self._gauge("requests_running", "Requests in the engines")
        self._pools = self._gauge(
            "pool_watts",
            "Of each of several pools: its share of the budget, and its draw",
            "pool",
            "of",
        )

    def _define_demand(self) -> None:
        """Define what clients ask for, and what the policy has learned."""
        self._demand = self._gauge(
            "demand_output_tokens_per_second", "Output tokens that clients ask for"
        )
        self._lengths = self._gauge(
            "demand_request_tokens",
            "Tokens of the mean request: prompt (to compute), cached and output",
            "kind",
        )
        self._queue = self._gauge(
            "requests_engine_queue", "Requests that the engines have not admitted"
        )
        self._reserve = self._gauge(
            "slo_reserve_ratio", "Capacity above the demand that measured latency requires"
        )
        self._guard = self._gauge(
            "slo_guard_active",
            "1 while the fleet is at its ceiling because requests miss the SLO and power is unused",
        )
        self._costs = self._gauge(
            "step_cost_ratio",
            "Measured over modelled cost of an engine step: time or energy of prompts or decoding",
            "of",
            "phase",
        )
        self._deviations = self._gauge(
            "step_cost_ratio_deviation", "Standard deviation of that ratio", "of", "phase"
        )

    def _define_supply(self) -> None:
        """Define battery, budget and shortages."""
        self._charge = self._gauge("battery_charge_ratio", "Share of the battery's capacity", "at")
        self._given = self._gauge(
            "battery_watts", "Discharge power of the battery, negative while it charges", "at"
        )
        self._feasible = self._gauge(
            "budget_feasible", "1 while the budget covers an all-asleep fleet"
        )
        self._short = self._gauge(
            "shortage_watts", "Largest shortage, present or forecast; 0 for none", "of"
        )
        self._begins = self._gauge(
            "shortage_begins_seconds", "Time until it begins; 0 if present", "of"
        )
        self._ends = self._gauge("shortage_ends_seconds", "Time until its forecast end", "of")

    def _define_grid(self) -> None:
        """Define what the grid asks, and what the site delivers."""
        self._limit = self._gauge(
            "grid_limit_watts",
            "The limit of the grid in force; absent without one",
            "link",
            "limit",
        )
        self._lost = self._gauge(
            "grid_link_lost", "1 while a link is lost or was not heard yet, else 0", "link"
        )
        self._in_event = self._gauge("grid_event_active", "1 while an event sets a limit")
        self._of_event = self._gauge(
            "grid_event_watts",
            "Of the event that allows the least, at the site: target, baseline, delivered",
            "event",
            "of",
            "energy_source",
        )
        self._complies = self._gauge(
            "grid_event_complies",
            "Before its start, 1 if the site can comply; then, if it is within 2 % of the target",
            "event",
        )
        self._coming = self._gauge("grid_event_begins_seconds", "Time until it begins", "event")

    def _define_gpus(self) -> None:
        """Define what holds for GPUs, and what happened to them."""
        self._conditions = self._gauge(
            "gpu_condition",
            "1 while it holds for a GPU of the replica: a slow-down, shared, counter disagrees",
            "replica",
            "condition",
        )
        self._events = self._counter(
            "gpu_events", "What began or happened: xid, memory, slowdown, counter, shared", "kind"
        )
        self._neighbours = self._counter(
            "neighbour_energy_joules", "Energy of other users of shared GPUs", "replica"
        )

    def _define_totals(self) -> None:
        boundary = self._gauge("energy_boundary_info", "1: what joules enclose", "boundary")
        boundary.labels(self._boundary).set(1)
        self._tokens = self._counter("output_tokens", "Tokens sampled by the engines")

    def _define_replicas(self) -> None:
        """Define what has a sample for each replica."""
        self._draw = Samples(
            "steppe_power_watts", "Mean draw of the GPUs", "gauge", "replica", "source"
        )
        self._clock = Samples("steppe_gpu_clock_limit_hertz", "SM clock limit", "gauge", "replica")
        self._power_limit = Samples(
            "steppe_gpu_power_limit_watts",
            "Sum of the board power limits of the GPUs",
            "gauge",
            "replica",
        )
        self._batch = Samples(
            "steppe_batch_limit", "Most sequences decoded at once", "gauge", "replica"
        )
        self._ratio = Samples(
            "steppe_energy_counter_ratio",
            "Joules of the energy counters for each joule of the power readings, at the last check",
            "gauge",
            "replica",
        )
        self._energy = Samples(
            "steppe_energy_joules_total",
            "Energy within the boundary: of requests, without work (idle), of starts (transition)",
            "counter",
            "kind",
            "model",
            "replica",
            "source",
        )
        self._energy_j: defaultdict[Labels, float] = defaultdict(float)
        self._ratios: dict[str, float] = {}

    def update(
        self,
        tick: TickRecord,
        reports: Sequence[ReplicaReport] = (),
        observation: Observation | None = None,
        learned: Learned | None = None,
        power_limits_w: Mapping[str, float] = NO_LIMITS,
    ) -> bytes:
        """Add a tick, and return the exposition.

        Args:
            tick: The tick.
            reports: The replica reports of its window.
            observation: What was observed at it; without one, its metrics stay.
            learned: What the policy has learned up to it; the same.
            power_limits_w: Board power limits that were set, by replica, W.
        """
        self._supply.set(tick.supply_w)
        self._stale.set(tick.stale)
        self._curtailed.set(tick.curtailed_w)
        self._budget.set(tick.budget_w)
        self._rest.clear()
        self._rest.labels(tick.node_rest_source).set(tick.node_rest_w)
        self._running.set(tick.running)
        if tick.took_s is not None:
            self._took.set(tick.took_s)
        self._demand.set(tick.demand_tps)
        if observation is not None:
            self._add_observation(observation)
        if learned is not None:
            self._add_learned(learned)
        if tick.battery is not None:
            self._charge.labels("site").set(tick.battery.share)
            self._given.labels("site").set(tick.battery.power_w)
        self._set_shortages(tick.shortages)
        self._set_grid(tick.grid, worst((self._source, *(each.quality for each in reports))))
        self._tokens.inc(tick.output_tokens)
        sources: defaultdict[str, str] = defaultdict(lambda: self._source)
        for report in reports:
            sources[report.replica] = worst((sources[report.replica], report.quality))
            self._add_energy(report)
        self._add_gpus(tick, reports)
        for state in STATES:
            self._replicas.labels(state).set(sum(r.state == state for r in tick.replicas))
        self._quarantined.clear()
        for replica in tick.replicas:
            if replica.fault:
                self._quarantined.labels(replica.id, replica.fault).set(1)
        for pool in tick.pools:
            self._pools.labels(pool.name, "budget").set(pool.budget_w)
            self._pools.labels(pool.name, "draw").set(pool.draw_w)
        of_replicas = self._of_replicas(tick, sources, power_limits_w)
        return generate_latest(self.registry) + of_replicas.encode()

    def _of_replicas(
        self, tick: TickRecord, sources: Mapping[str, str], power_limits_w: Mapping[str, float]
    ) -> str:
        """Return what has a sample for each replica; gauges have none of one that is lost."""
        replicas = tick.replicas
        return "".join(
            [
                self._draw.text(((r.id, sources[r.id]), r.draw_w) for r in replicas),
                self._clock.text(((r.id,), r.clock_mhz * 1e6) for r in replicas),
                self._batch.text(((r.id,), r.batch_limit) for r in replicas),
                self._power_limit.text(((name,), w) for name, w in power_limits_w.items()),
                self._ratio.text(((name,), ratio) for name, ratio in self._ratios.items()),
                self._energy.text(self._energy_j.items()),
            ]
        )

    def set_wakes(self, quantiles_s: Mapping[tuple[SleepDepth, str], float]) -> None:
        """Show how long wakes take, s, by depth and quantile."""
        for (depth, quantile), wake_s in quantiles_s.items():
            self._wakes.labels(depth, quantile).set(wake_s)

    def set_links(self, lost: Mapping[str, bool]) -> None:
        """Show which links to the grid are lost, by their names."""
        for link, is_lost in lost.items():
            self._lost.labels(link).set(is_lost)

    def _set_grid(self, grid: GridTick | None, source: str) -> None:
        """Show what the grid asks; what it does not ask is absent.

        Args:
            grid: What it asks.
            source: Where the draw comes from that baselines and what is delivered are made of.
        """
        for gauge in (self._limit, self._of_event, self._complies, self._coming):
            gauge.clear()
        self._in_event.set(grid is not None and grid.target_w is not None)
        if grid is None:
            return
        if grid.limit_w is not None:
            self._limit.labels(grid.limit.partition("/")[0], grid.limit).set(grid.limit_w)
        if not grid.event:
            return
        target_w = grid.hold_w if grid.target_w is None else grid.target_w
        for of, watts in (
            ("target", target_w),
            ("baseline", grid.baseline_w),
            ("delivered", grid.delivered_w),
        ):
            if watts is not None:
                self._of_event.labels(grid.event, of, source).set(watts)
        self._complies.labels(grid.event).set(bool(grid.complies))
        self._coming.labels(grid.event).set(grid.begins_in_s)

    def _add_gpus(self, tick: TickRecord, reports: Sequence[ReplicaReport]) -> None:
        for event in tick.gpu_events:
            if not event.is_over:
                self._events.labels(event.kind).inc()
        self._conditions.clear()
        for replica in tick.replicas:
            for condition in replica.conditions:
                self._conditions.labels(replica.id, condition).set(1)
        for report in reports:
            if report.neighbour_j > 0:
                self._neighbours.labels(report.replica).inc(report.neighbour_j)
            if report.counter_ratio is not None:
                self._ratios[report.replica] = report.counter_ratio

    def _add_observation(self, observation: Observation) -> None:
        asleep = [r.depth for r in observation.replicas if r.state == ReplicaState.ASLEEP]
        for depth in SleepDepth:
            self._depths.labels(depth).set(asleep.count(depth))
        self._queue.set(observation.engine_queue)
        self._lengths.clear()
        if observation.lengths is not None:
            self._lengths.labels("prompt").set(observation.lengths.prompt_tokens)
            self._lengths.labels("cached").set(observation.lengths.cached_tokens)
            self._lengths.labels("output").set(observation.lengths.output_tokens)

    def _add_learned(self, learned: Learned) -> None:
        self._reserve.set(learned.reserve)
        self._guard.set(learned.at_ceiling)
        for gauge, found in (
            (self._costs, learned.factors),
            (self._deviations, learned.deviations),
        ):
            gauge.labels("time", "prompt").set(found.prompt_time)
            gauge.labels("time", "decode").set(found.decode_time)
            gauge.labels("energy", "prompt").set(found.prompt_energy)
            gauge.labels("energy", "decode").set(found.decode_energy)

    def _add_energy(self, report: ReplicaReport) -> None:
        source = worst((self._source, report.quality))
        model = self._models.get(report.replica, "")
        for kind, energy_uj in (
            ("request", sum(report.requests_uj.values())),
            ("idle", report.idle_uj),
            ("transition", report.transition_uj),
        ):
            self._energy_j[kind, model, report.replica, source] += max(0, energy_uj) / UJ_PER_J

    def _set_shortages(self, shortages: Sequence[ShortageTick]) -> None:
        """Show the shortages; times that do not apply or are not known are absent."""
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
