"""What has to hold in the book of an hour, in the order in which it is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from steppe.ledger.periods.period import FIRST, Period, PeriodError
from steppe.ledger.periods.shares import IdleShare, head_of_shares, shares_of
from steppe.ledger.receipt import Receipt
from steppe.ledger.tree import check_inclusion

_AT_LEAST_0 = (
    "receipts_uj",
    "idle_uj",
    "transition_uj",
    "waste_uj",
    "carried_in_uj",
    "carried_out_uj",
)


def check_period(entry: bytes, receipts: Sequence[Receipt], before: bytes | None = None) -> Period:
    """Check the book of an hour, and return it.

    Args:
        entry: The entry of the period.
        receipts: All receipts of the hour, and the corrections written in it.
        before: The entry of the period before; None if it is the first one of its site.

    Raises:
        PeriodError: The first thing that does not hold.
        UsageError: An entry is no period.
    """
    period = Period.read(entry)
    check_sums(period)
    check_after(period, None if before is None else Period.read(before))
    check_receipts(period, receipts)
    return period


def check_chain(entries: Iterable[bytes]) -> int:
    """Check that all periods of a site are there, in their order; return what is unclaimed, uJ.

    From the first one on, corrections may give out no more energy than was left unclaimed.

    Args:
        entries: The entries of the periods, the first one of the site first.

    Raises:
        PeriodError: The first thing that does not hold.
        UsageError: An entry is no period.
    """
    before: Period | None = None
    unclaimed_uj = 0
    for entry in entries:
        period = Period.read(entry)
        check_sums(period)
        check_after(period, before)
        unclaimed_uj += period.unclaimed_uj
        if unclaimed_uj < 0:
            asked = f"asked for corrections of {period.corrections_uj} uJ"
            raise PeriodError(f"{_of(period)}: {asked}, found {-unclaimed_uj} uJ too much")
        before = period
    return unclaimed_uj


def check_share(period: Period, share: IdleShare, place: int, path: Sequence[bytes]) -> None:
    """Check that a period gives a receipt this share of its idle energy.

    Args:
        period: The period.
        share: The share, with the hash of the receipt.
        place: Its place among the shares of the period, from 0.
        path: What `prove_share` returned.

    Raises:
        ProofError: It does not.
    """
    check_inclusion(share.leaf, place, period.head, path)


def check_sums(period: Period) -> None:
    """Check what a period says by itself: its meters, and where their energy went.

    Raises:
        PeriodError: The first thing that does not hold.
    """
    names = [meter.name for meter in period.meters]
    if names != sorted(set(names)):
        asked = "asked for meters by name, each once"
        raise PeriodError(f"{_of(period)}: {asked}, found {', '.join(names):.80}")
    for meter in period.meters:
        if meter.start_uj < 0 or meter.energy_uj < 0:
            found = f"found {meter.start_uj} to {meter.end_uj} uJ"
            raise PeriodError(f"{_of(period)}: {meter.name}: asked for rising readings, {found}")
        difference_uj = meter.end_uj - meter.start_uj
        _equal(period, f"{meter.name}: end less start", difference_uj, meter.energy_uj)
    metered_uj = sum(meter.energy_uj for meter in period.meters)
    _equal(period, "meter_uj, the sum of its meters", metered_uj, period.meter_uj)
    for name in _AT_LEAST_0:
        if (value := getattr(period, name)) < 0:
            raise PeriodError(f"{_of(period)}: {name}: asked for at least 0, found {value}")
    explained_uj = period.claimed_uj + period.unclaimed_uj + period.carried_out_uj
    what = "meter_uj, the sum of receipts, idle, transition, waste, unclaimed and carried"
    _equal(period, what, explained_uj - period.carried_in_uj, period.meter_uj)
    if period.unclaimed_uj + max(0, period.corrections_uj) < 0:
        asked = f"asked for at most the {period.meter_uj} uJ of its meters"
        raise PeriodError(f"{_of(period)}: {asked}, found {period.claimed_uj} uJ claimed")


def check_after(period: Period, before: Period | None) -> None:
    """Check that a period follows another: the next hour of its site, meters where they were.

    Raises:
        PeriodError: The first thing that does not hold.
    """
    if before is None:
        if period.before != FIRST:
            asked = "asked for the first period of its site"
            raise PeriodError(f"{_of(period)}: {asked}, found {period.before:.16} before it")
        _equal(period, "carried_in_uj of the first period of its site", 0, period.carried_in_uj)
        return
    _equal(period, "site", before.site, period.site)
    _equal(period, "boundary", before.boundary, period.boundary)
    _equal(period, "hour", before.hour + 1, period.hour)
    _equal(period, "before, the hash of the hour before", before.hash, period.before)
    what = "carried_in_uj, what the hour before has carried out"
    _equal(period, what, before.carried_out_uj, period.carried_in_uj)
    now = {meter.name: meter.start_uj for meter in period.meters}
    for meter in before.meters:
        if meter.name in now:
            what = f"{meter.name}: start, the end of the hour before"
            _equal(period, what, meter.end_uj, now[meter.name])
        elif meter.energy_uj:
            asked = f"asked for meter {meter.name} of the hour before"
            raise PeriodError(f"{_of(period)}: {asked}, found {', '.join(now) or 'none':.80}")


def check_members(period: Period, receipts: Iterable[Receipt]) -> None:
    """Check that each of these receipts is of a period's site and hour, and is there once.

    Raises:
        PeriodError: The first thing that does not hold.
    """
    known: set[str] = set()
    for receipt in receipts:
        where = f"receipt {receipt.id}: "
        for name in ("site", "boundary", "hour"):
            _equal(period, where + name, getattr(receipt, name), getattr(period, name))
        if receipt.id in known:
            raise PeriodError(f"{_of(period)}: {where}asked for it once, found it twice")
        if receipt.energy_uj < 0 and not receipt.corrects:
            found = f"found {receipt.energy_uj}"
            raise PeriodError(f"{_of(period)}: {where}asked for at least 0 uJ, {found}")
        known.add(receipt.id)


def check_receipts(period: Period, receipts: Sequence[Receipt]) -> None:
    """Check that these are the receipts of a period, no more and no fewer.

    Raises:
        PeriodError: The first thing that does not hold.
    """
    check_members(period, receipts)
    own = [receipt.energy_uj for receipt in receipts if not receipt.corrects]
    corrections = [receipt.energy_uj for receipt in receipts if receipt.corrects]
    _equal(period, "receipts", len(own), period.receipts)
    _equal(period, "receipts_uj", sum(own), period.receipts_uj)
    _equal(period, "corrections", len(corrections), period.corrections)
    _equal(period, "corrections_uj", sum(corrections), period.corrections_uj)
    head = head_of_shares(shares_of(period.idle_uj, receipts))
    _equal(period, "root of its receipts and shares", head.root.hex(), period.root)


def _equal(period: Period, what: str, asked: int | str, found: int | str) -> None:
    if asked != found:
        raise PeriodError(f"{_of(period)}: {what}: asked for {asked}, found {found}")


def _of(period: Period) -> str:
    return f"period {period.id}"
