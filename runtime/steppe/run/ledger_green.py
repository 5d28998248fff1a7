"""Certificates and green scores of a site's books, for the command line."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from steppe.disk import disk_errors
from steppe.errors import UsageError
from steppe.ledger.green.checking import check_hour
from steppe.ledger.green.match import KIND as MATCH
from steppe.ledger.green.match import Match
from steppe.ledger.green.registry import certificates_of
from steppe.ledger.green.score import Score, site_score, tenant_scores
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.periods.period import Period
from steppe.ledger.periods.shares import shares_of
from steppe.ledger.receipt import Receipt
from steppe.ledger.store.books import receipts_of_hour
from steppe.ledger.store.certificates import Holding, Register, holdings
from steppe.ledger.store.green import match_late
from steppe.ledger.store.ledger_store import LedgerStore

AT_ONCE = 100
"""Certificates in one transaction: meanwhile no request is admitted."""
ALL_HOURS = range(2**40)
"""All hours since the Unix epoch that there may be."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Attributes:
        new: Certificates that were not known.
        known: Certificates that were there already.
    """

    new: int
    known: int


@dataclass(frozen=True, slots=True)
class Scores:
    """How green a site was.

    Attributes:
        sites: The score of each site, for all that it used.
        tenants: The score of each tenant, for its receipts.
        hours: Number of hours with a match.
        source_wh: What came from each source, Wh.
    """

    sites: Mapping[str, Score]
    tenants: Mapping[str, Score]
    hours: int
    source_wh: Mapping[str, int] = field(default_factory=dict)


def import_certificates(store: LedgerStore, path: Path) -> Imported:
    """Take the certificates of a registry's file in.

    The whole file is read first. Then some at a time are written, so that a run beside it does not
    wait; the same ones again change nothing.

    Raises:
        GreenError: One has the id of another, or stands for generation that is certified already;
            those that were written before stay.
        UsageError: The file cannot be read, or a row of it is no certificate.
    """
    with disk_errors(path):
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}: asked for text, found other bytes") from error
    try:
        certificates = certificates_of(text)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    new = 0
    for first in range(0, len(certificates), AT_ONCE):
        some = certificates[first : first + AT_ONCE]
        with store.transaction() as transaction:
            register = Register(transaction, _now_us())
            register.load(some)
            new += sum(register.issue(each) for each in some)
    return Imported(new, len(certificates) - new)


def list_certificates(store: LedgerStore, hours: range) -> list[Holding]:
    """Return who has what of the certificates that may be used in some hours."""
    with store.reading() as connection:
        return holdings(connection, hours.start, hours.stop)


def cancel_certificates(
    store: LedgerStore, ids: Sequence[str], owner: str, hours: range
) -> Mapping[str, int]:
    """Cancel what is matched of certificates, some at a time; return how many Wh of each.

    Args:
        store: The store.
        ids: The certificates; without any all that are matched and end within the hours.
        owner: Their owner.
        hours: The hours.

    Raises:
        GreenError: One is cancelled already, or nothing of it is matched; those that were
            cancelled before stay so.
    """
    if not ids:
        found = [one for one in list_certificates(store, hours) if one.owner == owner]
        ended = [one for one in found if one.certificate.to_hour <= hours.stop]
        ids = [one.certificate.id for one in ended if one.matched_wh]
    done: dict[str, int] = {}
    for first in range(0, len(ids), AT_ONCE):
        with store.transaction() as transaction:
            register = Register(transaction, _now_us())
            for id_ in ids[first : first + AT_ONCE]:
                done[id_] = register.cancel(id_, owner)[0].amount
    return done


def match_closed_hours(store: LedgerStore, hours: range) -> list[Match]:
    """Match certificates that came after the close of hours; return the new matches."""
    made = []
    for matches in matched_hours(store, hours):
        found = _books_of(store, matches[0])
        if found is None:
            continue
        with store.transaction() as transaction:
            match = match_late(transaction, *found, matches, now_us=_now_us())
        if match is not None:
            made.append(match)
    return made


def scores_of(store: LedgerStore, hours: range) -> Scores:
    """Return how green sites and tenants were in some hours, checked against the books.

    Raises:
        MatchError: A match does not fit the receipts of its hour.
    """
    by_site: dict[str, list[Match]] = {}
    receipts: list[Receipt] = []
    source_wh: dict[str, int] = {}
    count = 0
    for matches in matched_hours(store, hours):
        count += 1
        by_site.setdefault(matches[0].site, []).extend(matches)
        for source, wh in matches[0].source_wh.items():
            source_wh[source] = source_wh.get(source, 0) + wh
        if found := _books_of(store, matches[0]):
            receipts += _with_shares(matches, *found)
    sites = {site: site_score(found) for site, found in by_site.items()}
    return Scores(sites, tenant_scores(receipts), count, source_wh)


def matched_hours(store: LedgerStore, hours: range) -> Iterator[list[Match]]:
    """Yield the matches of each hour, in the order of the log."""
    by_hour: dict[tuple[str, int], list[Match]] = {}
    for match in map(Match.read, store.of_kind(MATCH)):
        if match.hour in hours:
            by_hour.setdefault((match.site, match.hour), []).append(match)
    yield from by_hour.values()


def _books_of(store: LedgerStore, match: Match) -> tuple[Period, Sequence[Receipt]] | None:
    """Return the period and the receipts of a match; None if its period is not there."""
    found = store.find(PERIOD, "", f"{match.site}/{match.boundary}/{match.hour}")
    if found is None:
        return None
    with store.reading() as connection:
        receipts = receipts_of_hour(connection, match.site, match.boundary, match.hour)
    return Period.read(found[1]), receipts


def _with_shares(
    matches: Sequence[Match], period: Period, receipts: Sequence[Receipt]
) -> Iterator[Receipt]:
    """Yield the receipts of an hour with their shares of idle and of green energy."""
    green_uj = {one.receipt: one.green_uj for one in check_hour(matches, period, receipts)}
    idle_uj = {one.receipt: one.idle_uj for one in shares_of(period.idle_uj, receipts)}
    for one in receipts:
        yield replace(one, idle_uj=idle_uj[one.id], green_uj=green_uj.get(one.id, 0))


def _now_us() -> int:
    return time.time_ns() // 1_000
