"""When an hour closes, and what its book is then.

Hour h ends at h + 1 and closes at h + 2. Until then its receipts are written; later only
corrections are, and a correction is in the book of the hour in which it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steppe.ledger.periods.checking import check_after, check_members, check_sums
from steppe.ledger.periods.period import FIRST, Meter, Period, PeriodError
from steppe.ledger.periods.shares import head_of_shares, shares_of
from steppe.ledger.receipt import Receipt

HOUR_US = 3_600_000_000
CLOSES_AFTER_H = 2
"""Hours from the start of an hour until it closes."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What was counted at a site in an hour.

    Attributes:
        site: The site.
        boundary: What its meters enclose: `gpu`, `node` or `site`.
        hour: The hour, hours since the Unix epoch.
        meters: Its meters; none if nothing ran.
        idle_uj: Energy without work, uJ.
        transition_uj: Energy of starts, stops and changes of state, uJ.
        waste_uj: Energy of requests that failed through no fault of their tenant, uJ.
        carried_in_uj: Energy of the requests that were open when the hour began, uJ.
        carried_out_uj: Energy of the requests that were open when it ended, uJ.
    """

    site: str
    boundary: str
    hour: int
    meters: tuple[Meter, ...] = ()
    idle_uj: int = 0
    transition_uj: int = 0
    waste_uj: int = 0
    carried_in_uj: int = 0
    carried_out_uj: int = 0


def hour_of(time_us: int) -> int:
    """Return the hour of a time, hours since the Unix epoch."""
    return time_us // HOUR_US


def closes_us(hour: int) -> int:
    """Return when an hour closes, us since the Unix epoch."""
    return (hour + CLOSES_AFTER_H) * HOUR_US


def last_closed(now_us: int) -> int:
    """Return the last hour that is closed now."""
    return hour_of(now_us) - CLOSES_AFTER_H


def check_open(receipt: Receipt, now_us: int) -> None:
    """Check that a receipt may be written now.

    Args:
        receipt: A receipt of an hour that is not closed, or a correction of this hour.
        now_us: The time, us since the Unix epoch.

    Raises:
        PeriodError: Its hour is closed, or has not begun; or a correction names another hour.
    """
    now = hour_of(now_us)
    first = now if receipt.corrects else last_closed(now_us) + 1
    if not first <= receipt.hour <= now:
        kind = "correction" if receipt.corrects else "receipt"
        asked = f"asked for the book of hour {receipt.hour}"
        raise PeriodError(f"{kind} {receipt.id}: {asked}, found {first} to {now} open")


def close_hour(
    counters: Counters, receipts: Sequence[Receipt], before: Period | None, now_us: int
) -> Period:
    """Return the book of an hour that is closed.

    A meter that was in the period before and is not counted any more is in this one once more,
    with nothing.

    Args:
        counters: What was counted.
        receipts: All receipts of the hour, and the corrections written in it.
        before: The period of the hour before; None for the first one of a site.
        now_us: The time, us since the Unix epoch.

    Raises:
        PeriodError: The hour is not closed yet or does not follow the one before, a receipt is not
            of it, a meter does not go on where it was, or more is claimed than was metered.
    """
    if counters.hour > last_closed(now_us):
        asked = f"asked to close hour {counters.hour}"
        raise PeriodError(f"{asked}, found it open until {closes_us(counters.hour)} us")
    corrections = [receipt for receipt in receipts if receipt.corrects]
    meters = _with_ended(counters.meters, () if before is None else before.meters)
    receipts_uj = sum(receipt.energy_uj for receipt in receipts if not receipt.corrects)
    corrections_uj = sum(receipt.energy_uj for receipt in corrections)
    meter_uj = sum(meter.energy_uj for meter in meters)
    used_uj = counters.idle_uj + counters.transition_uj + counters.waste_uj
    spent_uj = meter_uj + counters.carried_in_uj - counters.carried_out_uj
    period = Period(
        site=counters.site,
        boundary=counters.boundary,
        hour=counters.hour,
        before=FIRST if before is None else before.hash,
        meters=meters,
        receipts=len(receipts) - len(corrections),
        receipts_uj=receipts_uj,
        corrections=len(corrections),
        corrections_uj=corrections_uj,
        idle_uj=counters.idle_uj,
        transition_uj=counters.transition_uj,
        waste_uj=counters.waste_uj,
        unclaimed_uj=spent_uj - receipts_uj - corrections_uj - used_uj,
        carried_in_uj=counters.carried_in_uj,
        carried_out_uj=counters.carried_out_uj,
        meter_uj=meter_uj,
        root=head_of_shares(shares_of(counters.idle_uj, receipts)).root.hex(),
    )
    check_members(period, receipts)
    check_after(period, before)
    check_sums(period)
    return period


def _with_ended(meters: Sequence[Meter], earlier: Sequence[Meter]) -> tuple[Meter, ...]:
    known = {meter.name for meter in meters}
    ended = [
        Meter.between(meter.name, meter.end_uj, meter.end_uj)
        for meter in earlier
        if meter.energy_uj and meter.name not in known
    ]
    return tuple(sorted((*meters, *ended), key=lambda meter: meter.name))
