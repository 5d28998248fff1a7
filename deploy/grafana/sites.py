"""The dashboard of the sites: the others and their power, what goes between them, and the debts."""

from __future__ import annotations

from deploy.grafana.panels import (
    Json,
    Target,
    bars,
    dashboard,
    lines,
    number,
    rate,
    rise,
    row,
    site,
    sources,
)

OWED = "steppe_sites_owed_joules_total"
MORE, LESS = 'change="more"', 'change="less"'
DIFFERS = 'agrees="no"'
NOT_LIVE = 'health!="live"'
TAKEN, REFUSED = 'end=~"answered|broken|left"', 'end!~"answered|broken|left"'


def board() -> Json:
    """Return the dashboard."""
    text = "Which sites work together, what goes between them, and does the settlement agree?"
    panels = [*_now(), *_beats(), *_power(), *_sent(), *_taken(), *_quotas(), *_settlement()]
    return dashboard("steppe-sites", "Steppe: sites", text, panels)


def _now() -> list[Json]:
    usable = Target(f"sum(max by (site) ({site('steppe_sites_usable')}))", "usable")
    left = Target(site("steppe_sites_certificate_seconds"), "left")
    lost = Target(f"sum({site('steppe_sites_health', NOT_LIVE)})", "without work")
    differ = Target(f"sum({rise('steppe_sites_settlements_total', DIFFERS)})", "differ")
    suspects = Target(f"sum({site('steppe_sites_suspect')})", "suspect")
    return [
        sources(),
        number("Sites that may get work", "Beside this one.", "none", usable),
        number("Sites that get none", "Lost, damped or cut off.", "none", lost, bad_above=1),
        number("Life of the certificate", "", "s", left, bad_below=6 * 3600),
        number("Settlements that differ", "In the time shown.", "none", differ, bad_above=1),
        number("Sites with false claims", "Barred for now.", "none", suspects, bad_above=1),
    ]


def _beats() -> list[Json]:
    health = Target(f"{site('steppe_sites_health')} == 1", "{{site}} {{health}}")
    trips = Target(site("steppe_sites_round_trip_seconds"), "{{site}}")
    ages = Target(site("steppe_sites_beat_age_seconds"), "{{site}}")
    state = Target(f"max({site('steppe_sites_state_age_seconds')})", "of the gateway")
    losses = Target(rise("steppe_sites_losses_total"), "{{site}}")
    refused = Target(rate("steppe_sites_beats_refused_total"), "refused")
    return [
        row("Beats"),
        lines("Health", "1 for the health that a site has.", "none", health, width=8, stacked=True),
        lines("Round trips", "Least of the last 100.", "s", trips, width=8),
        lines("Age of the last beat", "And of what the gateway knows.", "s", ages, state, width=8),
        bars("Losses", "In the time shown.", "none", losses),
        lines("Beats refused per second", "Of other sites, here.", "reqps", refused),
    ]


def _power() -> list[Json]:
    surplus = Target(site("steppe_sites_surplus_watts"), "{{site}}")
    draw = Target(site("steppe_sites_draw_watts"), "{{site}}")
    headroom = Target(site("steppe_sites_headroom_watts"), "{{site}}")
    used = f"{site('steppe_sites_draw_watts')} / ({site('steppe_sites_budget_watts')} > 0)"
    return [
        row("Power of the sites, as their beats show it"),
        lines("Surplus", "Own wind and sun above the draw.", "watt", surplus),
        lines("Draw of the GPUs", "", "watt", draw, stacked=True),
        lines("Headroom", "", "watt", headroom),
        lines("Draw as a share of the budget", "", "percentunit", Target(used, "{{site}}")),
    ]


def _sent() -> list[Json]:
    chosen = f"sum by (site, reason) ({rate('steppe_sites_requests_total')})"
    ends = f"sum by (site, end) ({rate('steppe_sites_hops_total')})"
    tokens = f"sum by (site, kind) ({rate('steppe_sites_tokens_total')})"
    moved = Target(f"sum({rate('steppe_sites_conversations_moved_total')})", "moved")
    resting = Target(f"max by (site) ({site('steppe_sites_resting')})", "{{site}}")
    dropped = Target(f"sum({rate('steppe_sites_notes_dropped_total')})", "lost per second")
    waiting = Target(f"sum({site('steppe_sites_notes_waiting')})", "waiting")
    return [
        row("Sent to other sites"),
        lines("Choices", "Per second.", "reqps", Target(chosen, "{{site}}: {{reason}}")),
        lines("Ends of tries", "Per second.", "reqps", Target(ends, "{{site}} {{end}}")),
        lines("Tokens per second", "", "short", Target(tokens, "{{site}} {{kind}}"), width=6),
        lines("Sites that refused lately", "", "none", resting, width=6),
        lines("Conversations that move", "Per second.", "reqps", moved, width=6),
        lines("Notes for the service", "", "none", waiting, dropped, width=6),
    ]


def _taken() -> list[Json]:
    calls = "steppe_sites_calls_received_total"
    answered = Target(f"sum by (site, end) ({rate(calls, TAKEN)})", "{{site}} {{end}}")
    refused = Target(f"sum by (site, end) ({rate(calls, REFUSED)})", "{{site}} {{end}}")
    now = Target(site("steppe_sites_calls_open"), "{{site}}")
    return [
        row("Taken of other sites"),
        lines("Calls by how they ended", "Per second.", "reqps", answered, width=8),
        lines("Calls refused, by reason", "Per second.", "reqps", refused, width=8),
        lines("Open calls", "", "none", now, width=8),
    ]


def _quotas() -> list[Json]:
    lease = "{{site}} {{model}} {{priority}}"
    leases = Target(site("steppe_sites_lease_tokens_per_second"), lease)
    took = Target(site("steppe_sites_plan_seconds"), "last plan")
    plans = Target(rise("steppe_sites_plans_total"), "made")
    failed = Target(rise("steppe_sites_plan_failures_total"), "failed")
    away = Target(site("steppe_sites_gateway_away"), "away")
    return [
        row("Quotas and plan"),
        lines("Leases", "Output tokens/s that may go there.", "short", leases, stacked=True),
        bars("Plans", "In the time shown.", "none", plans, failed, width=4),
        lines("Time of a plan", "", "s", took, width=4),
        lines("Gateway is away", "1: it shows no room to others.", "none", away, width=4),
    ]


def _settlement() -> list[Json]:
    periods = f"sum by (site, agrees) ({rise('steppe_sites_settlements_total')})"
    kinds = f"sum by (site, what) ({rise('steppe_sites_settlement_mismatches_total')}) > 0"
    receipts = f"sum by (site) ({rise('steppe_sites_settlement_receipts_total')})"
    noted = Target(f"sum({rise('steppe_sites_requests_noted_total')})", "tries noted here")
    owed = " - ".join(f"sum by (site, source) ({rise(OWED, change)})" for change in (MORE, LESS))
    waits = Target(site("steppe_sites_settlement_waits"), "{{site}}")
    verdicts = f"sum by (site, verdict) ({rise('steppe_sites_claims_judged_total')})"
    suspects = Target(site("steppe_sites_suspect"), "{{site}}")
    return [
        row("Settlement and claims, of this site as the home"),
        bars(
            "Periods", "Settled in the time shown.", "none", Target(periods, "{{site}} {{agrees}}")
        ),
        bars("What did not fit", "In the time shown.", "none", Target(kinds, "{{site}} {{what}}")),
        bars("Receipts", "In the time shown.", "none", Target(receipts, "of {{site}}"), noted),
        bars("Owed", "In the time shown.", "joule", Target(f"{owed} > 0", "{{site}} ({{source}})")),
        lines("Settlement waits", "1: it does not go on.", "none", waits, width=8),
        bars("Hours judged", "", "none", Target(verdicts, "{{site}} {{verdict}}"), width=8),
        lines("Barred for its claims", "", "none", suspects, width=8),
    ]
