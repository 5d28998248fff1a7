"""What is sold as green: of each hour no more than was matched, each part of it once.

The matched energy of an hour is a unit of its own, `green:SITE:HOUR`, in uJ; what GECs cover is
another, `gec:SITE:HOUR`. An account of a site never falls below 0, so a sale takes what is there:

    offer      matched -> site                of each match
    sell       site -> available              of a tenant: the sum of its receipts' shares
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from steppe.ledger.entries import Movement, MovementKind, available
from steppe.ledger.green.certificates import site_name
from steppe.ledger.green.match import GreenShare, Match

Basis = Literal["green", "gec"]
"""What is sold: generation of the same hour, or what GECs cover."""
MATCHED = "matched"
"""The account of what was matched in all hours."""
_LONGEST = 128
"""Characters of the cause of a movement."""


def unit_of(site: str, hour: int, basis: Basis = "green") -> str:
    """Return the unit of the matched energy of an hour."""
    return f"{basis}:{site_name(site)}:{hour}"


def site_account(site: str) -> str:
    """Return the account of a site's energy that is matched and not sold."""
    return f"site/{site_name(site)}/available"


def offered(match: Match) -> list[Movement]:
    """Return the movements that offer what a match made green."""
    own, moved = site_account(match.site), []
    for basis, amount in _amounts(match):
        if amount:
            unit = unit_of(match.site, match.hour, basis)
            cause = f"{unit}/{match.number}"
            moved.append(Movement(cause, MovementKind.DEPOSIT, MATCHED, own, unit, amount))
    return moved


def sold(match: Match, shares: Sequence[GreenShare], tenants: Mapping[str, str]) -> list[Movement]:
    """Return the movements that give each tenant what its receipts have of a match.

    Args:
        match: The match.
        shares: The part of each receipt.
        tenants: The tenant of each receipt.
    """
    sums: dict[tuple[Basis, str], int] = {}
    for share in shares:
        for basis, amount in _parts(share):
            key = (basis, tenants[share.receipt])
            sums[key] = sums.get(key, 0) + amount
    own, moved = site_account(match.site), []
    for (basis, tenant), amount in sorted(sums.items()):
        if amount:
            unit = unit_of(match.site, match.hour, basis)
            cause = _cause(f"{unit}/{match.number}:{tenant}")
            moved.append(
                Movement(cause, MovementKind.TRANSFER, own, available(tenant), unit, amount)
            )
    return moved


def left_by(matches: Iterable[Match]) -> dict[tuple[str, str], int]:
    """Return the balances that matches leave in the accounts of the site, by account and unit."""
    left: dict[tuple[str, str], int] = {}
    for match in matches:
        sold_uj: dict[Basis, int] = {"green": match.sold_uj, "gec": match.gec_sold_uj}
        for basis, made_uj in _amounts(match):
            unit = unit_of(match.site, match.hour, basis)
            own, made = (site_account(match.site), unit), (MATCHED, unit)
            left[own] = left.get(own, 0) + made_uj - sold_uj[basis]
            left[made] = left.get(made, 0) - made_uj
    return left


def _amounts(match: Match) -> Iterator[tuple[Basis, int]]:
    yield "green", match.green_uj
    yield "gec", match.gec_uj


def _parts(share: GreenShare) -> Iterator[tuple[Basis, int]]:
    yield "green", share.green_uj
    yield "gec", share.gec_uj


def _cause(name: str) -> str:
    """Return a name that fits; of a longer one the beginning, with a part of its SHA-256."""
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
