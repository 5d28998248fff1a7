"""Queries that have no series in a run in which nothing is wrong, each with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

REASONS: Mapping[str, str] = {
    "steppe_alias_requests_total": "no request named an alias",
    "steppe_gpu_condition": "no GPU slows down, is shared, or has a counter that disagrees",
    "steppe_gpu_events_total": "no GPU had an event",
    "steppe_ledger_witness_failures_total": "the ledger has no witness",
    "steppe_ledger_witness_signed_entries": "the ledger has no witness",
    "steppe_neighbour_energy_joules_total": "no GPU is shared with others",
    "steppe_rejections_total": "no request was refused for want of power or replicas",
    "steppe_replica_quarantined": "no replica is quarantined",
    "steppe_shortage_begins_seconds": "no shortage is forecast",
    "steppe_sites_calls_open": "no call of another site came",
    "steppe_sites_hops_total": "no request went to another site",
    "steppe_sites_lease_tokens_per_second": "no site has more power than its own customers need",
    "steppe_sites_owed_joules_total": "nothing is owed for the time shown",
    "steppe_sites_settlement_mismatches_total": "everything fits in the time shown",
    "steppe_sites_tokens_total": "no request went to another site",
    'answer="ledger_unavailable"': "the ledger has always answered",
    'end=~"answered|broken|left"': "no call of another site was taken",
    'end!~"answered|broken|left"': "no call of another site was refused",
}
"""Why there may be no sample of a metric, or of one with a label."""
SECTIONS: Mapping[str, str] = {
    "steppe_agent_": "node_exporter shows no file of an agent",
    "node_textfile_": "node_exporter shows no file of an agent",
    "steppe_battery_": "a run without power.battery",
    "steppe_batch_": "a run without the section batch",
    "steppe_ledger_": "a run without the section ledger",
    "steppe_gateway_ledger_": "a run without the section ledger",
    "steppe_grid_site_meter_": "a run without grid.site_meter",
    "steppe_grid_event_": "no event of the grid, or a run without the section grid",
    "steppe_grid_": "a run without the section grid",
    "steppe_sites_": "a run without the section sites",
}
"""Why a run may publish no metric of a kind, by the beginning of its name."""
_SOURCE = re.compile(r'(unless|and) on \(\) steppe_energy_joules_total\{source="emulated"')


def reason_of(query: str) -> str:
    """Return why a query may have no series; empty if it has to have some."""
    return next((why for text, why in REASONS.items() if _has(query, text)), "")


def source_of(query: str) -> str:
    """Return the energy for which a query has no series: its twin in the panel has it then."""
    match = _SOURCE.search(query)
    if match is None:
        return ""
    return "energy is emulated" if match[1] == "unless" else "energy is measured"


def section_of(absent: Iterable[str], with_samples: frozenset[str]) -> str:
    """Return why a run publishes no metric of a kind; empty if it publishes some.

    Args:
        absent: Metrics without samples.
        with_samples: Metrics with samples.
    """
    names = tuple(absent)
    for text, why in SECTIONS.items():
        is_absent = any(name.startswith(text) for name in names)
        if is_absent and not any(name.startswith(text) for name in with_samples):
            return why
    return ""


def _has(query: str, text: str) -> bool:
    return re.search(rf"(?<![a-z_]){re.escape(text)}(?![a-z_])", query) is not None
