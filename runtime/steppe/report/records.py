"""What a run writes down: one line a tick, one line a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from steppe.control.placing import QUEUE_PER_REPLICA
from steppe.power.battery import Charge
from steppe.report.ledger_totals import LedgerTotals

Bound = Literal["ceiling", "floor"]
"""The end of its range that keeps a fleet from its budget, see `report.tick_records.bound_of`."""
Outcome = Literal["completed", "failed", "rejected", "shed", "cancelled", "invalid"]


@dataclass(frozen=True, slots=True)
class GpuEvent:
    """Something that happened to a GPU, as its node noticed it within a tick.

    Attributes:
        gpu: UUID of the GPU.
        kind: `xid` (an error that the driver reports), `memory` (an error that ECC could not
            correct), `slowdown` (heat or power brake), `counter` (the energy counter disagrees with
            the power readings) or `shared` (another process uses the GPU).
        text: What was seen.
        is_over: Whether a state ended; `xid` and `memory` have no end.
    """

    gpu: str
    kind: Literal["xid", "memory", "slowdown", "counter", "shared"]
    text: str
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaTick:
    """One replica during one tick.

    Attributes:
        id: Stable name of the replica.
        state: `starting`, `awake`, `asleep`, `draining`, `gone` or `quarantined`.
        clock_mhz: SM clock limit that was taken last, MHz; it may come into force a second later.
        batch_limit: Most sequences it may decode at once.
        draw_w: Mean draw of its GPUs over the window, W.
        output_tps: Output tokens per second over the window.
        depth: How deep it sleeps: `paused`, `offloaded`, `stopped` or `node_off`; else empty.
        fault: Why it is quarantined; empty if it is not.
        conditions: What holds for its GPUs: `thermal`, `power brake` and other slow-downs,
            `shared`, `counter disagrees`.
        pool: The pool that it belongs to; empty where there is only one.
    """

    id: str
    state: str
    clock_mhz: int
    batch_limit: int
    draw_w: float
    output_tps: float
    depth: str = ""
    fault: str = ""
    conditions: tuple[str, ...] = ()
    pool: str = ""


@dataclass(frozen=True, slots=True)
class PoolTick:
    """The replicas of one model on one kind of GPU during one tick.

    Attributes:
        name: Name of the pool: that of the model, and of the GPUs where they differ.
        budget_w: Its share of the budget that governed the window, W.
        draw_w: Mean draw over the window, W.
        demand_tps: Output tokens per second that clients ask of it.
        output_tps: Output tokens per second over the window.
        waiting: Requests that wait for a place in a batch.
        awake: Replicas that serve.
    """

    name: str
    budget_w: float
    draw_w: float
    demand_tps: float
    output_tps: float
    waiting: int
    awake: int


@dataclass(frozen=True, slots=True)
class BatchTick:
    """The batch work during one tick.

    Attributes:
        jobs: Jobs with rows that are not finished, at the end of the window.
        rows: These rows.
        tokens: Output tokens that they are expected to give.
        running: Deferrable requests in the engines.
        draw_w: Their part of the draw over the window, W: that of the running requests which they
            are, so an estimate.
        surplus_w: Power for the GPUs that is no bought power, when the window began, W; the draw of
            other requests takes it first.
        output_tps: Output tokens per second that the plan counts on.
        reason: Why the job with the most of them runs or waits; empty before the first plan.
    """

    jobs: int
    rows: int
    tokens: float
    running: int
    draw_w: float
    surplus_w: float
    output_tps: float = 0.0
    reason: str = ""

    def from_surplus_w(self, whole_w: float) -> float:
        """Return how much of their draw was surplus, W, where the whole fleet drew `whole_w`."""
        left_w = self.surplus_w - (whole_w - self.draw_w)
        return min(self.draw_w, max(0.0, left_w))


@dataclass(frozen=True, slots=True)
class GridTick:
    """What the grid asked when a window began, and what the site did in it.

    Attributes:
        limit: Name of the limit in force, such as `openadr/e1`; empty without one.
        limit_w: That limit, W at the site; None without one.
        event: The event that allowed the least, or that begins next, as `LINK/ID`; empty without.
        target_w: What it allowed, W at the site; None before its start.
        hold_w: What it allows between its ramps, W at the site; None without an event.
        begins_in_s: Time from the end of the window to its start, s; 0 once it has begun.
        ends_in_s: Time from the end of the window to its end, s; None without an event.
        baseline_w: What the site drew before it, W.
        delivered_w: How much less than that the site drew, W; None before its start.
        complies: Before its start, whether the site can comply; then, whether its mean draw was at
            most 2 % above what was allowed. None without an event.
        reason: Why the site cannot comply, in one line; empty if it can.
    """

    limit: str = ""
    limit_w: float | None = None
    event: str = ""
    target_w: float | None = None
    baseline_w: float | None = None
    delivered_w: float | None = None
    complies: bool | None = None
    reason: str = ""
    hold_w: float | None = None
    begins_in_s: float = 0.0
    ends_in_s: float | None = None

    @property
    def is_coming(self) -> bool:
        """Whether its event has not begun."""
        return bool(self.event) and self.target_w is None


@dataclass(frozen=True, slots=True)
class ShortageTick:
    """What the budget is not enough for, as it is foreseen at the end of a tick.

    Attributes:
        of: `floor`: what the fleet draws asleep. `demand`: what the demand takes at the SLO.
        short_w: How much more is needed at its worst, W.
        begins_in_s: Time from the tick until it begins, s; 0 when it is here.
        ends_in_s: Time from the tick until it ends, s; None when the forecast does not see it.
    """

    of: Literal["floor", "demand"]
    short_w: float
    begins_in_s: float
    ends_in_s: float | None

    @property
    def is_here(self) -> bool:
        """Whether it has begun."""
        return self.begins_in_s <= 0


@dataclass(frozen=True, slots=True)
class TickRecord:
    """One control period: the window that ended with a tick.

    Attributes:
        t_s: End of the window, s since the run began.
        budget_w: Power budget of the GPUs that governed the window, W.
        draw_w: Mean draw over the window, W.
        supply_w: Power offered at the site when the window began, W.
        demand_tps: Output tokens per second that clients ask for.
        output_tps: Output tokens per second over the window.
        energy_j: Energy of the window, J.
        output_tokens: Output tokens of the window.
        waiting: Requests that wait for a place in a batch.
        running: Requests that an engine works on.
        engine_queue: Requests that replicas hold and that their engines have not admitted; prompts
            in progress do not count.
        budget_source: What set the budget: the supplies and `battery`, joined by `+`, or
            `fallback`; with `battery` in it, the draw may exceed `supply_w` within the budget.
        shortages: What the budget is not enough for, now or first in the forecast.
        battery: State of the battery after the window, and what it gave in it, at the site; None
            without one.
        curtailed_w: Supply that was neither drawn nor stored nor kept in reserve, W at the site.
        site_w: Mean draw of the site over the window, W; 0 where it is not known.
        sources_w: What the site took from each source, `wind`, `sun`, `grid`, `battery` or `other`:
            together draw and charge of the battery, W at the site. Empty while a supply is stale.
        stale: Whether a supply was stale or missing, so that `supply_w` is the fallback.
        node_rest_w: Draw of the nodes beside their GPUs that was deducted from the budget, W.
        node_rest_source: Whether that is `measured`, `stated`, or stated while a meter is `stale`.
        bound: `ceiling` or `floor` if the fleet could draw no more or no less; None if it could.
        one_awake_w: If every replica is asleep: draw of the fleet with one awake at its lowest
            point, W; otherwise None.
        gpu_events: What happened to GPUs.
        pools: Every pool of the fleet; empty where there is only one.
        variants: The share that the plan gave each model in the requests for each alias.
        batch: The batch work; None without any.
        grid: What the grid asked, and what was delivered; None if it asked nothing.
        took_s: How long the controller worked on the tick before this one, s; None where that is
            not measured, as in a simulation.
        replicas: Every replica of the fleet.
    """

    t_s: float
    budget_w: float
    draw_w: float
    supply_w: float
    demand_tps: float
    output_tps: float
    energy_j: float
    output_tokens: int
    waiting: int
    running: int
    engine_queue: int = field(default=0, kw_only=True)
    budget_source: str = field(default="", kw_only=True)
    shortages: tuple[ShortageTick, ...] = field(default=(), kw_only=True)
    battery: Charge | None = field(default=None, kw_only=True)
    curtailed_w: float = field(default=0.0, kw_only=True)
    site_w: float = field(default=0.0, kw_only=True)
    sources_w: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    stale: bool = field(default=False, kw_only=True)
    node_rest_w: float = field(default=0.0, kw_only=True)
    node_rest_source: str = field(default="stated", kw_only=True)
    bound: Bound | None = field(default=None, kw_only=True)
    one_awake_w: float | None = field(default=None, kw_only=True)
    gpu_events: tuple[GpuEvent, ...] = field(default=(), kw_only=True)
    pools: tuple[PoolTick, ...] = field(default=(), kw_only=True)
    variants: Mapping[str, Mapping[str, float]] = field(default_factory=dict, kw_only=True)
    batch: BatchTick | None = field(default=None, kw_only=True)
    grid: GridTick | None = field(default=None, kw_only=True)
    took_s: float | None = field(default=None, kw_only=True)
    replicas: tuple[ReplicaTick, ...]

    @property
    def awake(self) -> tuple[ReplicaTick, ...]:
        """The replicas that serve."""
        return tuple(replica for replica in self.replicas if replica.state == "awake")

    @property
    def work_waits(self) -> bool:
        """Whether requests wait, at the gateway or in the engines.

        The gateway sends each replica a few more than its batch takes, so that it never runs dry;
        those do not count.
        """
        most = QUEUE_PER_REPLICA * len(self.awake)
        return self.waiting > 0 or self.engine_queue > most


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request, from its arrival to its end; what is not known is None.

    Attributes:
        id: The request's name.
        tenant: Name of the tenant that sent it.
        priority: Its class, such as `interactive`, `standard` or `deferrable`.
        arrival_s: When it arrived, s since the run began.
        ttft_s: Arrival to the first output token, s.
        e2e_s: Arrival to the last output token, s.
        tpot_s: Time per output token after the first, s.
        prompt_tokens: Tokens of the prompt; of a request that ended before its first output token,
            those that were computed.
        cached_tokens: Those of them that the prefix cache held.
        output_tokens: Tokens generated, also by a request that did not complete.
        energy_j: Energy charged to it, J.
        energy_source: `counter`, `integrated`, `estimated`, `emulated` or `modelled`.
        finish: The engine's finish reason, or `failed`, `rejected` (refused on arrival), `shed`
            (refused after waiting), `cancelled` (the client left) or `invalid` (a client error,
            4xx).
        replica: Name of the replica that served it; None if another site did.
        streamed: Whether the client asked for an event stream; without one there is no `ttft_s`.
        boundary: What `energy_j` encloses: `gpu`, `node` or `site`.
        model: The model that served it, by the name that clients use; empty in older records.
        adapter: The LoRA adapter of that model that it asked for; empty without one.
        continued: How often its stream went on after its replica was lost.
        asked_model: The alias that it asked for; empty if it asked for the model that served it.
        gateway: Name of the gateway that had it; empty if the run has only one.
        site: The other site that served it, or the rest of it; empty if it was served here alone.
            `energy_j` has the energy of this site's meters only.
    """

    id: str
    tenant: str
    priority: str
    arrival_s: float
    ttft_s: float | None
    e2e_s: float | None
    tpot_s: float | None
    prompt_tokens: int
    cached_tokens: int | None
    output_tokens: int
    energy_j: float | None
    energy_source: str
    finish: str
    replica: str | None
    streamed: bool = True
    boundary: str = "gpu"
    model: str = ""
    adapter: str = ""
    continued: int = 0
    asked_model: str = ""
    gateway: str = ""
    site: str = ""

    @property
    def outcome(self) -> Outcome:
        """How the request ended; an unknown finish counts as failed."""
        match self.finish:
            case "stop" | "length" | "repetition" | "tool_calls" | "content_filter":
                return "completed"
            case "cancelled" | "abort":
                return "cancelled"
            case "rejected" | "shed" | "invalid" as outcome:
                return outcome
            case _:
                return "failed"


@dataclass(frozen=True, slots=True)
class ConfigChangeRecord:
    """A change of the configuration while the run went on.

    Attributes:
        t_s: When it was carried out, s since the run began.
        section: Name of the section.
        by: By what right: `admin key`, `localhost` or the name of a tenant.
        before: The section before, as the file would hold it.
        after: The section since.
    """

    t_s: float
    section: str
    by: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunTotals:
    """What only the run as a whole knows.

    Attributes:
        duration_s: Length of the run, s.
        energy_source: `counter`, `integrated`, `estimated`, `emulated` or `modelled`.
        boundary: What the joules enclose: `gpu`, `node` or `site`.
        energy_j: Metered energy of the run, J.
        idle_energy_j: The part that no request caused, J.
        transition_energy_j: The part that starting, sleeping and waking cost, J.
        meter_delay_s: How late the meter sees a change of the draw, s.
        energy_error_j: Bound of the meter's error on `energy_j`, J.
        versions: Releases of what ran, by name.
        neighbour_energy_j: Energy of other users of shared GPUs, not part of `energy_j`, J.
        unclaimed_energy_j: The part of engine steps that no known request claims, J.
        lost_ticks: Ticks that could not be written down.
        lost_requests: Requests that could not be written down.
        gateway_restarts: How often the gateway was seen to have started again.
        broke_off: Why the run ended before it was to; empty if it did not.
        frontier_source: Where the operating points come from: `file`, `cached`, `modelled`,
            `assumed` or `measured`.
        frontier_measured_at_s: When the run had measured them itself, s since it began; None if it
            did not.
        ledger: What each run of the record has booked; empty without a ledger.
    """

    duration_s: float
    energy_source: str
    boundary: str
    energy_j: float
    idle_energy_j: float
    transition_energy_j: float
    meter_delay_s: float
    energy_error_j: float
    versions: dict[str, str]
    neighbour_energy_j: float = 0.0
    unclaimed_energy_j: float = 0.0
    lost_ticks: int = 0
    lost_requests: int = 0
    gateway_restarts: int = 0
    broke_off: str = ""
    frontier_source: str = "modelled"
    frontier_measured_at_s: float | None = None
    ledger: tuple[LedgerTotals, ...] = ()

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return what `books.json` holds."""
        ledger = tuple(LedgerTotals(**each) for each in values.get("ledger", ()))
        return cls(**{**values, "ledger": ledger})


@dataclass(frozen=True, slots=True)
class Slo:
    """The times that a request must keep; `report.latency.within_slo` states the rule.

    Attributes:
        ttft_s: Longest time to the first token, s.
        tpot_s: Longest time per output token after the first, s.
        of_models: The times of each model, by the name that clients use; empty where all have the
            same.
    """

    ttft_s: float
    tpot_s: float
    of_models: Mapping[str, Slo] = field(default_factory=dict)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return what `books.json` holds."""
        of_models = values.get("of_models", {})
        return cls(
            values["ttft_s"],
            values["tpot_s"],
            {name: cls.read(each) for name, each in of_models.items()},
        )

    def of(self, request: RequestRecord) -> Slo:
        """Return the times that a request must keep: those of what it asked for."""
        return self.of_models.get(request.asked_model or request.model, self)
