"""The green energy of a site's hours in the store: matched when an hour closes, and sold once.

The match, the certificates that it uses and what each tenant gets of it change in the transaction
that writes the period of the hour. Amounts are a unit of each hour:

    green:SITE:HOUR     what is matched to generation of the hour, uJ
    gec:SITE:HOUR       what GECs cover, uJ

`matched` gives them to the site, the site to tenants: the sum of their receipts' shares, never more
than was matched, because no account of a site falls below 0. What is left is the operator's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson
import sqlalchemy as sql

from steppe.ledger.green.certificates import own_certificates, site_name
from steppe.ledger.green.hourly import (
    HourEnergy,
    HourShares,
    ReceiptLoad,
    Used,
    flows_of,
    loads_of,
    match_of_hour,
)
from steppe.ledger.green.match import KIND, Match
from steppe.ledger.green.sales import offered, sold
from steppe.ledger.green.supply import UJ_PER_WH, Carried, HourSupply, supply_of
from steppe.ledger.periods.period import Period
from steppe.ledger.receipt import Receipt
from steppe.ledger.store.certificates import Register
from steppe.ledger.store.log_entries import LogEntry
from steppe.ledger.store.tables import ENTRIES, GREEN
from steppe.ledger.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class GreenTerms:
    """What the configuration says of a site's energy.

    Attributes:
        zone: Its grid zone; empty for one of its own.
        grid_mix: Weight of each source in the grid, in any unit; empty if unknown.
    """

    zone: str = ""
    grid_mix: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SiteGreen:
    """What the store keeps of the green energy of a site.

    Attributes:
        terms: What the configuration of its last run says.
        carried: What its last matched hour left to the next one.
    """

    terms: GreenTerms = field(default_factory=GreenTerms)
    carried: Carried = field(default_factory=Carried)


def keep_terms(transaction: Transaction, site: str, terms: GreenTerms) -> None:
    """Write what a configuration says; hours that close from now on are matched by it."""
    found = _green_of(transaction.connection, site)
    _keep_green(transaction.connection, site, replace(found, terms=terms))


def match_hour(
    transaction: Transaction,
    period: Period,
    receipts: Sequence[Receipt],
    energy: HourEnergy,
    now_us: int,
    *,
    loads: Sequence[ReceiptLoad] | None = None,
) -> Match | None:
    """Match an hour that closes, share and sell the result, and log it.

    An hour is matched once: again, nothing changes. An hour without load and supply has no match.

    Args:
        transaction: The transaction that writes the period.
        period: The book of the hour.
        receipts: Its receipts, and the corrections written in it.
        energy: What was counted in it.
        now_us: The time, us since the Unix epoch.
        loads: What `loads_of` returns for them, if that is known.
    """
    site = site_name(period.site)
    kept = _green_of(transaction.connection, period.site)
    if kept.carried.hour >= period.hour:
        return None
    flows = flows_of(period.hour, energy, kept.terms.grid_mix)
    supply, after = supply_of(flows, kept.carried)
    _keep_green(transaction.connection, period.site, replace(kept, carried=after))
    if not supply.load_wh and not any(supply.source_wh.values()):
        return None
    zone = kept.terms.zone or site
    register = Register(transaction, now_us)
    for certificate in own_certificates(site, zone, supply):
        # Generation for which an imported certificate stands is certified already.
        if register.find(certificate.id) is None and register.doubled_by(certificate) is None:
            register.issue(certificate)
    found = register.match(site, zone, period.hour, supply.load_wh)
    loads = loads_of(period, receipts) if loads is None else loads
    shares = HourShares(loads, supply.load_uj)
    return _made_green(
        transaction, period, supply, shares, Used(zone, found), before=None, now_us=now_us
    )


def match_late(
    transaction: Transaction,
    period: Period,
    receipts: Sequence[Receipt],
    earlier: Sequence[Match],
    now_us: int,
) -> Match | None:
    """Match certificates that came after the close of an hour; None if there is nothing to match.

    Args:
        transaction: The transaction.
        period: The book of the hour.
        receipts: Its receipts, and the corrections written in it.
        earlier: The matches of the hour, in their order; at least one.
        now_us: The time, us since the Unix epoch.

    Raises:
        MatchError: The earlier matches do not fit.
    """
    last = earlier[-1]
    done_wh = sum(each.green_wh + each.gec_wh for each in earlier)
    room_wh = last.load_wh - done_wh
    register = Register(transaction, now_us)
    found = register.match(site_name(period.site), last.zone, period.hour, room_wh)
    if not found:
        return None
    supply = HourSupply(period.hour, last.load_wh, last.source_wh, last.load_uj, last.lost_uj)
    shares = HourShares(loads_of(period, receipts), supply.load_uj)
    for each in earlier:
        shares.add(each.green_uj, each.gec_uj)
    used = Used(last.zone, found)
    return _made_green(transaction, period, supply, shares, used, before=last, now_us=now_us)


def matches_of(connection: sql.Connection, site: str, hour: int) -> list[Match]:
    """Return the matches of an hour, in their order."""
    found: list[Match] = []
    while True:
        named = (ENTRIES.c.kind == KIND) & (ENTRIES.c.id == f"{site}/{hour}/{len(found)}")
        entry = connection.scalar(sql.select(ENTRIES.c.bytes).where(named))
        if entry is None:
            return found
        found.append(Match.read(entry))


def _made_green(
    transaction: Transaction,
    period: Period,
    supply: HourSupply,
    shares: HourShares,
    used: Used,
    *,
    before: Match | None,
    now_us: int,
) -> Match:
    """Share, sell and log what certificates cover."""
    parts = shares.add(used.green_wh * UJ_PER_WH, used.gec_wh * UJ_PER_WH)
    match = match_of_hour(period, supply, parts, used, before)
    tenants = {one.id: one.tenant for one in shares.loads}
    transaction.move([*offered(match), *sold(match, parts, tenants)], now_us)
    transaction.add([LogEntry(KIND, match.id, "", now_us, match.entry)])
    return match


def _green_of(connection: sql.Connection, site: str) -> SiteGreen:
    query = sql.select(GREEN.c.terms, GREEN.c.carried).where(GREEN.c.site == site)
    row = connection.execute(query).first()
    if row is None:
        return SiteGreen()
    return SiteGreen(GreenTerms(**orjson.loads(row.terms)), Carried(**orjson.loads(row.carried)))


def _keep_green(connection: sql.Connection, site: str, green: SiteGreen) -> None:
    values = {
        "terms": orjson.dumps(green.terms),
        "hour": green.carried.hour,
        "carried": orjson.dumps(green.carried),
    }
    found = connection.execute(sql.update(GREEN).where(GREEN.c.site == site).values(**values))
    if not found.rowcount:
        connection.execute(sql.insert(GREEN), {"site": site, **values})
