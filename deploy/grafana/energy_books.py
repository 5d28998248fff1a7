"""The dashboard of the energy books: joules by kind, what they enclose, and the ledger."""

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
    rise,
    row,
    site,
    sources,
)

ENERGY = "steppe_energy_joules_total"
LOST = "steppe_unclaimed_energy_joules_total"
UNCLAIMED = of_energy(f"sum({rise(LOST)}) / sum({rise(ENERGY)})", "unclaimed")
UNCLAIMED_NOW = of_energy(f"sum({rate(LOST)}) / sum({rate(ENERGY)})", "unclaimed")


def board() -> Json:
    """Return the dashboard."""
    text = "Where did each joule go, how well is it known, and is it in the books?"
    panels = [*_energy(), *_ledger()]
    return dashboard("steppe-energy-books", "Steppe: energy books", text, panels)


def _energy() -> list[Json]:
    total = Target(f"sum by (source) ({rise(ENERGY)})", "{{source}}")
    kinds = Target(f"sum by (kind, source) ({rise(ENERGY)})", "{{kind}} ({{source}})")
    watts = Target(f"sum by (kind, source) ({rate(ENERGY)})", "{{kind}} ({{source}})")
    models = Target(f"sum by (model, source) ({rate(ENERGY)})", "{{model}} ({{source}})")
    boundary = Target(site("steppe_energy_boundary_info"), "{{boundary}}")
    ratio = Target(site("steppe_energy_counter_ratio"), "{{replica}}")
    rest = Target(site("steppe_power_node_rest_watts"), "{{source}}")
    neighbours = of_energy(
        f"sum by (replica) ({rate('steppe_neighbour_energy_joules_total')})", "{{replica}}"
    )
    unpriced = Target(f"sum({rise('steppe_ledger_unpriced_total')})", "unpriced")
    behind = Target(
        f"{site('steppe_ledger_entries')} - {site('steppe_ledger_published_entries')}", "to publish"
    )
    enclosed = number("Joules enclose", "The boundary.", "none", boundary)
    enclosed["options"]["textMode"] = "name"
    return [
        sources(),
        enclosed,
        number("Energy", "In the time shown.", "joule", total),
        number("Unclaimed share", "", "percentunit", *UNCLAIMED, bad_above=0.001),
        number("Receipts without a price", "", "none", unpriced, bad_above=1),
        number("Entries to be published", "Of the log.", "none", behind),
        row("Where joules go"),
        lines("Power by kind", "", "watt", watts, stacked=True),
        bars("Energy by kind", "In the time shown.", "joule", kinds),
        lines("Power by model", "", "watt", models, stacked=True),
        lines("Unclaimed share", "", "percentunit", *UNCLAIMED_NOW),
        row("How well they are known"),
        lines("Counter for each joule of the power readings", "", "short", ratio, width=8),
        lines("Power of the nodes beside GPUs", "", "watt", rest, width=8),
        lines("Power of other users of shared GPUs", "", "watt", *neighbours, width=8),
    ]


def _ledger() -> list[Json]:
    receipts = Target(f"sum by (finish) ({rate('steppe_ledger_receipts_total')})", "{{finish}}")
    joules = Target(
        f"sum by (source) ({rise('steppe_ledger_receipts_joules_total')})", "{{source}}"
    )
    entries = Target(site("steppe_ledger_entries"), "in the store")
    published = Target(site("steppe_ledger_published_entries"), "published")
    witnesses = Target(site("steppe_ledger_witness_signed_entries"), "signed by {{witness}}")
    load = of_energy(rise("steppe_ledger_load_joules_total"), "used")
    matched = of_energy(rise("steppe_ledger_matched_joules_total"), "matched by {{by}}")
    decisions = f"sum by (outcome) ({rate('steppe_ledger_decisions_total')})"
    wrong = [
        Target(rise(f"steppe_ledger_{name}_total"), text)
        for name, text in (
            ("unpriced", "receipts without a price"),
            ("holds_expired", "holds that expired"),
            ("sink_failures", "failed calls to the sink"),
            ("witness_failures", "{{witness}} did not sign"),
        )
    ]
    return [
        row("Ledger"),
        lines("Receipts per second", "", "reqps", receipts),
        bars("Energy of receipts", "In the time shown.", "joule", joules),
        lines("Entries of the log", "", "none", entries, published, witnesses),
        lines("Decisions per second", "", "reqps", Target(decisions, "{{outcome}}")),
        bars("Green energy", "Of hours closed in the time shown.", "joule", *load, *matched),
        bars("What went wrong", "In the time shown.", "none", *wrong),
    ]
