"""The dashboard of the grid: limits, events, links and the meter of the site."""

from __future__ import annotations

from deploy.grafana.panels import (
    Json,
    Target,
    dashboard,
    lines,
    number,
    rate,
    row,
    site,
    sources,
)

COMPLIES = Target(site("steppe_grid_event_complies"), "{{event}}")
LIMIT = Target(site("steppe_grid_limit_watts"), "limit {{limit}}")
DRAW = Target(f"sum by (source) ({site('steppe_power_watts')})", "GPUs ({{source}})")


def board() -> Json:
    """Return the dashboard."""
    text = "What does the grid ask, does the site comply, and are its links alive?"
    return dashboard("steppe-grid", "Steppe: grid", text, [*_now(), *_limits(), *_links()])


def _now() -> list[Json]:
    active = Target(site("steppe_grid_event_active"), "active")
    begins = Target(site("steppe_grid_event_begins_seconds"), "{{event}}")
    lost = Target(f"sum({site('steppe_grid_link_lost')})", "lost")
    away = Target(site("steppe_grid_controller_away"), "away")
    not_complying = Target(f"count({site('steppe_grid_event_complies')} == 0) or vector(0)", "")
    return [
        sources(),
        number("An event is active", "1 while one sets a limit.", "none", active),
        number("It begins in", "", "s", begins),
        number("Events without compliance", "", "none", not_complying, bad_above=1),
        number("Links that are lost", "", "none", lost, bad_above=1),
        number("Controller is away", "1: it does not answer.", "none", away, bad_above=1),
    ]


def _limits() -> list[Json]:
    event = Target(site("steppe_grid_event_watts"), "{{event}} {{of}}")
    supply = Target(site("steppe_power_supply_watts"), "supply of the site")
    meter = Target(site("steppe_grid_site_meter_watts"), "site, {{of}}")
    feasible = Target(site("steppe_budget_feasible"), "feasible")
    curtailed = Target(site("steppe_power_curtailed_watts"), "curtailed")
    charge = Target(site("steppe_battery_charge_ratio"), "charge")
    return [
        row("Limits and events"),
        lines("Limit, supply and draw", "", "watt", LIMIT, supply, meter, DRAW, width=24),
        lines("Event: target, baseline, delivered", "At the site.", "watt", event),
        lines("Complies", "1: the site can, or is within 2 %.", "none", COMPLIES),
        lines("Curtailment", "Unused supply.", "watt", curtailed, width=8),
        lines("Charge of the battery", "", "percentunit", charge, width=8),
        lines("The budget covers a sleeping fleet", "", "none", feasible, width=8),
    ]


def _links() -> list[Json]:
    lost = Target(site("steppe_grid_link_lost"), "{{link}}")
    refused = Target(f"sum by (link) ({rate('steppe_grid_refused_total')})", "{{link}}")
    age = Target(site("steppe_grid_site_meter_age_seconds"), "age")
    return [
        row("Links and the meter of the site"),
        lines("Links that are lost", "", "none", lost, width=8),
        lines("Refused per second", "Changes and messages.", "reqps", refused, width=8),
        lines("Age of the reading of the meter", "", "s", age, width=8),
    ]
