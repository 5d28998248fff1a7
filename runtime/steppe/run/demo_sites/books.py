"""The books of the sites: each one exact, and all pairs in agreement."""

from __future__ import annotations

from steppe.report.record_folder import LEDGER_FOLDER
from steppe.run.demo_sites.outcome import Books
from steppe.run.demo_sites.places import Places
from steppe.run.ledger_audit import audit
from steppe.run.ledger_folder import ledger_folder


def check_books(places: Places) -> Books:
    """Audit the ledger of each site, and compare what each pair has settled.

    Args:
        places: The sites, which have ended.

    Raises:
        UsageError: A ledger is missing.
    """
    lines, faults = [], []
    for name, place in places.sites.items():
        found = audit(ledger_folder(place.record / LEDGER_FOLDER), lambda done, of: None)
        meter_uj = sum(sums.meter_uj for sums in found.energy)
        faults += [f"{name}: {fault}" for fault in found.faults]
        if not found.faults:
            lines.append(f"{name}: {found.entries:,} entries, {meter_uj:,} uJ, all of it holds")
    return Books(tuple(lines), tuple(faults))
