"""What is shown of a recorded event, as JSON values."""

from __future__ import annotations

from typing import Any

from steppe.grid.reports.record import EventRecord
from steppe.ledger.receipt import ENERGY_SOURCES


def shown_record(name: str, record: EventRecord) -> dict[str, Any]:
    """Return an event that is kept.

    Args:
        name: Name of its folder.
        record: The event.
    """
    event = record.event
    return {
        "object": "steppe.grid_record",
        "name": name,
        "id": event.id,
        "link": event.source,
        "program": event.program,
        "kind": event.kind,
        "state": str(record.state),
        "note": record.note,
        "cancelled": record.is_cancelled,
        "accepted": record.accepted_s,
        "starts": event.starts_s,
        "ends": event.ends_s,
        "due": record.due_s,
        "interval_s": record.interval_s,
        "baseline_w": record.stated_w,
        "energy_source": ENERGY_SOURCES[record.rank],
        "verdict": record.verdict,
    }
