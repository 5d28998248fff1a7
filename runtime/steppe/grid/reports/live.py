"""What an event has delivered so far, by the baseline of its settlement."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.errors import UsageError
from steppe.grid.history.history import History
from steppe.grid.history.steps import Span
from steppe.grid.reports.making import promised_of
from steppe.grid.reports.record import EventRecord
from steppe.grid.verify.audit import Kept
from steppe.grid.verify.delivery import Direction, delivery_of
from steppe.grid.verify.stated import ControlGroup
from steppe.ledger.receipt import ENERGY_SOURCES


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the whole intervals of an event so far have delivered.

    Attributes:
        link: Its link.
        id: Its id.
        method: How its baseline is made.
        energy_source: Where the energy is from.
        intervals: How many intervals are over.
        baseline_w: What would be drawn in the present one, W.
        promised_w: What is owed in the present one, W.
        promised_j: Energy that was promised so far, J.
        delivered_j: Energy that was delivered so far, J.
        missing_j: Energy that was missing so far, J.
        unmetered: Intervals without a reading.
    """

    link: str
    id: str
    method: str
    energy_source: str
    intervals: int
    baseline_w: int
    promised_w: int
    promised_j: int
    delivered_j: int
    missing_j: int
    unmetered: int


def delivered_of(
    record: EventRecord, kept: Kept, history: History, now_s: float
) -> Delivered | None:
    """Return what an event has delivered so far; None before its settlement begins and after it.

    Args:
        record: The event.
        kept: Its baseline.
        history: What the site drew.
        now_s: The present, s since the Unix epoch.

    Raises:
        UsageError: The baseline cannot be used, or the history cannot be read.
    """
    times, size = record.times, record.interval_s
    if times is None or not times.start_s <= now_s < times.end_s + size:
        return None
    if isinstance(kept, ControlGroup):
        raise UsageError(
            "control group: asked for the draw of its replicas, found that of the site"
        )
    until_s = min(times.end_s, int(now_s) // size * size)
    count = (until_s - times.start_s) // size
    watts = kept.watts(times.start_s, times.end_s)
    promised = promised_of(record, kept, times)
    drawn = history.drawn(Span(times.start_s, until_s, size, record.rank))
    found = delivery_of(
        Direction.LESS,
        times.start_s,
        size,
        baseline=watts[:count],
        load=drawn.load.watts,
        committed=promised[:count],
    )
    present = min(count, len(watts) - 1)
    return Delivered(
        record.event.source,
        record.event.id,
        kept.name,
        ENERGY_SOURCES[drawn.rank],
        count,
        watts[present],
        promised[present],
        found.committed_j,
        found.delivered_j,
        found.deficiency_j,
        found.unmetered,
    )
