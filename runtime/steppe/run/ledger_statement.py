"""The statement of a tenant's month, and the bundle with which the tenant checks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from steppe.errors import UsageError
from steppe.ledger.green.match import KIND as MATCH
from steppe.ledger.green.match import Match
from steppe.ledger.periods.closing import HOUR_US
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.periods.period import Period
from steppe.ledger.receipt import Receipt
from steppe.ledger.receipts_of import ascii_name
from steppe.ledger.service_entry import REMOTE_ENERGY
from steppe.ledger.settlement import RemoteEnergy
from steppe.ledger.statements.elsewhere import Elsewhere, elsewhere_of
from steppe.ledger.statements.hour_shares import Shared, shared_in_hour
from steppe.ledger.statements.month import Month
from steppe.ledger.statements.statement import Statement, statement_of
from steppe.ledger.store.books import receipts_of_hour
from steppe.ledger.store.green import matches_of
from steppe.ledger.store.ledger_store import CHUNK, LedgerStore
from steppe.ledger.store.places import entries_after


@dataclass(frozen=True, slots=True)
class MonthBooks:
    """What the books say of a tenant's month.

    Attributes:
        statements: A statement for each currency or unit in which something was paid.
        receipts: The receipts with their places in the log, oldest first.
        shares: What the hours give them, by the id of the receipt.
        periods: Places and books of the hours that are closed.
        matches: Places and matches of these hours with green energy.
        open_hours: Number of hours with receipts that are not closed: their shares are missing.
        elsewhere: What other sites used for the tenant, of periods that ended in the month.
    """

    statements: tuple[Statement, ...]
    receipts: tuple[tuple[int, Receipt], ...]
    shares: Mapping[str, Shared] = field(default_factory=dict)
    periods: tuple[tuple[int, Period], ...] = ()
    matches: tuple[tuple[int, Match], ...] = ()
    open_hours: int = 0
    elsewhere: tuple[Elsewhere, ...] = ()


def books_of_month(
    store: LedgerStore, tenant: str, month: Month, on_hours: Callable[[int, int], None]
) -> MonthBooks:
    """Return what the books say of a tenant's month.

    Args:
        store: The store.
        tenant: The tenant.
        month: The month.
        on_hours: Called with the hours read so far, and all of them.

    Raises:
        UsageError: The tenant has no receipt in it, or the store cannot be read.
    """
    tenant = ascii_name(tenant)
    placed = tuple(_receipts(store, tenant, month))
    if not placed:
        raise UsageError(f"statement: asked for {month.text} of {tenant}, found no receipt")
    hours = sorted({(one.site, one.boundary, one.hour) for _, one in placed})
    shares: dict[str, Shared] = {}
    periods: list[tuple[int, Period]] = []
    matches: list[tuple[int, Match]] = []
    for number, hour in enumerate(hours):
        found = store.find(PERIOD, "", "/".join(map(str, hour)))
        if found is not None:
            period = Period.read(found[1])
            periods.append((found[0], period))
            matches += _matches(store, period)
            shares |= shares_of_hour(store, period, tenant)
        on_hours(number + 1, len(hours))
    statements = _statements([one for _, one in placed], tenant, month, shares)
    still_open = len(hours) - len(periods)
    elsewhere = _elsewhere(store, tenant, month)
    return MonthBooks(
        statements, placed, shares, tuple(periods), tuple(matches), still_open, elsewhere
    )


def shares_of_hour(store: LedgerStore, period: Period, tenant: str) -> dict[str, Shared]:
    """Return what the books of an hour give to the receipts of a tenant, by the receipt's id."""
    with store.reading() as connection:
        receipts = receipts_of_hour(connection, period.site, period.boundary, period.hour)
        matches = matches_of(connection, period.site, period.hour)
    return shared_in_hour(period, matches, receipts, tenant)


def _elsewhere(store: LedgerStore, tenant: str, month: Month) -> tuple[Elsewhere, ...]:
    begin_us, end_us = month.hours.start * HOUR_US, month.hours.stop * HOUR_US
    with store.reading() as connection:
        found = entries_after(connection, REMOTE_ENERGY, begin_us, end_us)
    return elsewhere_of(map(RemoteEnergy.read, found), tenant)


def _matches(store: LedgerStore, period: Period) -> Iterator[tuple[int, Match]]:
    """Yield the matches of an hour with their places in the log."""
    number = 0
    while found := store.find(MATCH, "", f"{period.site}/{period.hour}/{number}"):
        yield found[0], Match.read(found[1])
        number += 1


def _receipts(store: LedgerStore, tenant: str, month: Month) -> Iterator[tuple[int, Receipt]]:
    """Yield the receipts of a month by their place."""
    begin_us, end_us, after = month.hours.start * HOUR_US, month.hours.stop * HOUR_US, -1
    while found := store.receipts(tenant, begin_us, end_us, CHUNK, after):
        for place, entry in found:
            yield place, Receipt.read(entry)
        after = found[-1][0]


def _statements(
    receipts: Sequence[Receipt], tenant: str, month: Month, shares: Mapping[str, Shared]
) -> tuple[Statement, ...]:
    """Return a statement for each currency; what has no price is on the first one."""
    given = {id_: shared.share for id_, shared in shares.items()}
    currencies = sorted({one.currency for one in receipts if one.currency}) or [""]
    return tuple(
        statement_of(
            [one for one in receipts if one.currency == currency or (not one.currency and not n)],
            tenant,
            month,
            given,
        )
        for n, currency in enumerate(currencies)
    )
