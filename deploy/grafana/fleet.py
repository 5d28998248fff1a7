"""The dashboard of the fleet: power, the three knobs, requests and GPUs."""

from __future__ import annotations

from deploy.grafana.panels import (
    Json,
    Target,
    bars,
    dashboard,
    lines,
    number,
    of_energy,
    rate,
    row,
    site,
    sources,
)

DRAW = Target(f"sum by (source) ({site('steppe_power_watts')})", "draw ({{source}})")
BUDGET = Target(site("steppe_power_budget_watts"), "budget")
SUPPLY = Target(site("steppe_power_supply_watts"), "supply of the site")
SHORT = Target(site("steppe_shortage_watts"), "{{of}}")
TOKENS = Target(rate("steppe_output_tokens_total"), "output")
PER_JOULE = of_energy(
    f"sum({rate('steppe_output_tokens_total')}) / sum({rate('steppe_energy_joules_total')})",
    "tokens per joule",
)
WAITING = Target(f"sum by (model) ({site('steppe_requests_waiting')})", "waiting for {{model}}")


def quantile(metric: str, share: float) -> Target:
    """Return a quantile of a histogram, by model."""
    buckets = f"sum by (le, model) ({rate(f'{metric}_bucket')})"
    return Target(f"histogram_quantile({share}, {buckets})", f"p{round(100 * share)} {{{{model}}}}")


def board() -> Json:
    """Return the dashboard."""
    text = "Does the fleet follow its budget, and what does it make of it?"
    panels = [*_now(), *_power(), *_knobs(), *_requests(), *_gpus()]
    return dashboard("steppe-fleet", "Steppe: fleet", text, panels)


def _now() -> list[Json]:
    silent = Target(f"max({site('steppe_controller_stale')})", "silent")
    stale = Target(site("steppe_power_supply_stale"), "stale")
    return [
        sources(),
        number("Budget of the GPUs", "", "watt", BUDGET),
        number("Draw of the GPUs", "", "watt", DRAW),
        number("Tokens per joule", "", "short", *PER_JOULE),
        number("Supply is stale", "1: the budget is the fallback.", "none", stale, bad_above=1),
        number("Controller is silent", "1: replicas have paused.", "none", silent, bad_above=1),
    ]


def _power() -> list[Json]:
    replicas = Target(site("steppe_power_watts"), "{{replica}} ({{source}})")
    begins = Target(site("steppe_shortage_begins_seconds"), "{{of}} begins in")
    charge = Target(site("steppe_battery_charge_ratio"), "charge")
    battery = Target(site("steppe_battery_watts"), "discharge")
    return [
        row("Power"),
        lines("Supply, budget and draw", "", "watt", SUPPLY, BUDGET, DRAW, width=24),
        lines("Draw of each replica", "", "watt", replicas, stacked=True),
        lines("Shortages", "Present or forecast; 0 for none.", "watt", SHORT, width=6),
        lines("Time until a shortage", "", "s", begins, width=6),
        lines("Battery", "Negative while it charges.", "watt", battery, width=6),
        lines("Charge of the battery", "", "percentunit", charge, width=6),
        lines("Tokens per joule", "", "short", *PER_JOULE),
    ]


def _knobs() -> list[Json]:
    clocks = Target(site("steppe_gpu_clock_limit_hertz"), "{{replica}}")
    limits = Target(site("steppe_gpu_power_limit_watts"), "{{replica}}")
    batches = Target(site("steppe_batch_limit"), "{{replica}}")
    states = Target(site("steppe_replicas"), "{{state}}")
    depths = Target(site("steppe_replicas_asleep"), "{{depth}}")
    wakes = Target(site("steppe_wake_seconds"), "{{depth}} {{quantile}}")
    return [
        row("Knobs"),
        lines("Clock limits", "", "hertz", clocks, width=8),
        lines("Batch limits", "Most sequences decoded at once.", "none", batches, width=8),
        lines("Replicas", "", "none", states, width=8, stacked=True),
        lines("Board power limits", "A ceiling, not a knob.", "watt", limits, width=8),
        lines("Depth of sleep", "", "none", depths, width=8, stacked=True),
        lines("Time to wake", "", "s", wakes, width=8),
    ]


def _requests() -> list[Json]:
    demand = Target(site("steppe_demand_output_tokens_per_second"), "demand")
    running = Target(site("steppe_requests_running"), "running")
    queue = Target(site("steppe_requests_engine_queue"), "in the engines' queues")
    missed = Target(
        f"sum by (model, objective) ({rate('steppe_slo_missed_total')})"
        f" / sum by (model, objective) ({rate('steppe_slo_judged_total')})",
        "{{model}} {{objective}}",
    )
    refused = Target(f"sum by (reason) ({rate('steppe_rejections_total')})", "{{reason}}")
    broken = Target(f"sum({rate('steppe_gateway_broken_streams_total')})", "broken")
    continued = Target(f"sum({rate('steppe_gateway_continued_streams_total')})", "went on")
    ttft = [quantile("steppe_time_to_first_token_seconds", share) for share in (0.5, 0.95)]
    e2e = [quantile("steppe_request_duration_seconds", share) for share in (0.5, 0.95)]
    return [
        row("Requests"),
        lines("Output tokens per second", "", "short", demand, TOKENS),
        lines("Requests", "", "none", running, queue, WAITING),
        lines("Time to first token", "", "s", *ttft, width=8),
        lines("Duration of a request", "", "s", *e2e, width=8),
        lines("Share that misses the SLO", "", "percentunit", missed, width=8),
        lines("Refusals per second", "", "reqps", refused),
        lines("Streams that lost a replica", "Per second.", "reqps", continued, broken),
    ]


def _gpus() -> list[Json]:
    events = Target(f"sum by (kind) ({rate('steppe_gpu_events_total')})", "{{kind}}")
    conditions = Target(site("steppe_gpu_condition"), "{{replica}} {{condition}}")
    quarantined = Target(site("steppe_replica_quarantined"), "{{replica}}: {{fault}}")
    # The agents' metrics come from node_exporter, another instance than the gateway.
    leases = Target("steppe_agent_lease_left_seconds", "{{instance}} {{holder}}")
    faults = Target("steppe_agent_gpu_fault", "{{instance}} {{gpu}}")
    lost = Target("increase(steppe_agent_holders_lost_total[$__range])", "{{instance}}")
    return [
        row("GPUs and agents"),
        lines("Conditions of GPUs", "Slow-down, shared, counter.", "none", conditions, width=8),
        lines("Events of GPUs per second", "", "short", events, width=8),
        lines("Quarantined replicas", "", "none", quarantined, width=8),
        lines("Time left of leases", "All agents.", "s", leases, width=8),
        lines("Limits that do not hold", "All agents.", "none", faults, width=8),
        bars("Holders of leases that were lost", "All agents.", "none", lost, width=8),
    ]
