"""The audit of green energy: no Wh is used twice, and each receipt has the share that is logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steppe.errors import UsageError
from steppe.ledger.green.certificates import Certificate
from steppe.ledger.green.checking import check_hour, check_matches
from steppe.ledger.green.match import Match
from steppe.ledger.green.sales import left_by
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.periods.period import Period
from steppe.ledger.store.snapshot import StoreSnapshot


def green_faults(
    store: StoreSnapshot, matches: Sequence[Match], certificates: Mapping[str, Certificate]
) -> list[str]:
    """Return what does not hold of the matches of a ledger, a line each.

    Args:
        store: The store, of which the receipts of each hour are read again.
        matches: All matches, in their order.
        certificates: All certificates, by id.
    """
    faults = use_faults(matches, certificates)
    by_hour: dict[tuple[str, str, int], list[Match]] = {}
    for match in matches:
        by_hour.setdefault((match.site, match.boundary, match.hour), []).append(match)
    for hour, own in by_hour.items():
        try:
            _check_hour(store, hour, own)
        except UsageError as error:
            faults.append(str(error))
    return faults + _wrong_accounts(store, matches)


def use_faults(matches: Sequence[Match], certificates: Mapping[str, Certificate]) -> list[str]:
    """Return what does not hold of the use of certificates; it needs no receipts.

    Args:
        matches: All matches, in their order.
        certificates: All certificates, by id.
    """
    try:
        check_matches(matches, certificates)
    except UsageError as error:
        return [str(error)]
    return []


def _wrong_accounts(store: StoreSnapshot, matches: Sequence[Match]) -> list[str]:
    """Return which accounts of sites have other energy than the matches leave in them."""
    balances = {(each.account, each.unit): each.balance for each in store.balances()}
    wrong = []
    for (account, unit), asked in sorted(left_by(matches).items()):
        if (found := balances.get((account, unit), 0)) != asked:
            wrong.append(f"{account}: asked for {asked} {unit} by the matches, found {found}")
    return wrong


def _check_hour(store: StoreSnapshot, hour: tuple[str, str, int], matches: Sequence[Match]) -> None:
    found = store.find(PERIOD, "/".join(map(str, hour)))
    if found is None:
        raise UsageError(f"match {matches[0].id}: found no period of its hour")
    check_hour(matches, Period.read(found), store.receipts_of_hour(*hour))
