"""The guard of green tariffs: of each hour no more is sold than was matched.

The matched energy of an hour is a unit of its own, `green:SITE:HOUR`, in uJ; what GECs cover is
another, `gec:SITE:HOUR`. It is offered once, and a sale takes from it:

    offer      matched -> available           of the site, when the hour is matched
    sell       available -> available         of the tenant
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from steppe.ledger.entries import Kind, Movement, available
from steppe.ledger.green.books import Books, GreenError
from steppe.ledger.green.matching import HourMatch
from steppe.ledger.green.supply import UJ_PER_WH

Basis = Literal["green", "gec"]
"""What is sold: generation of the same hour, or what GECs cover."""
MATCHED = "matched"
"""The account of what was matched in all hours."""


class OversoldError(GreenError):
    """A green tariff would sell more than was matched."""


def offered(match: HourMatch) -> list[Movement]:
    """Return the movements that offer what is matched of an hour, once."""
    own, moved = available(f"site:{match.site}"), []
    amounts: tuple[tuple[Basis, int], ...] = (("green", match.green_uj), ("gec", match.gec_uj))
    for basis, amount in amounts:
        if amount:
            unit = unit_of(match.site, match.hour, basis)
            moved.append(Movement(unit, Kind.DEPOSIT, MATCHED, own, unit, amount))
    return moved


def sold(
    receipt: str, site: str, hour: int, tenant: str, amount_uj: int, *, basis: Basis = "green"
) -> Movement:
    """Return the movement of a sale.

    Args:
        receipt: Id of the receipt.
        site: The site.
        hour: The hour.
        tenant: The buyer.
        amount_uj: What is sold, above 0, uJ.
        basis: What it is.
    """
    giver, unit = available(f"site:{site}"), unit_of(site, hour, basis)
    cause = f"{basis}:{receipt}"
    return Movement(cause, Kind.TRANSFER, giver, available(tenant), unit, amount_uj)


def unit_of(site: str, hour: int, basis: Basis = "green") -> str:
    """Return the unit of the matched energy of an hour."""
    return f"{basis}:{site}:{hour}"


class GreenSales:
    """What is sold as green, by hour; it is made again from its movements."""

    def __init__(self, movements: Iterable[Movement] = ()) -> None:
        """Begin with the movements of before.

        Raises:
            GreenError: They sell more than was offered.
        """
        self._books = Books()
        for movement in movements:
            self._books.move(movement)

    @property
    def movements(self) -> Sequence[Movement]:
        """All movements, in their order."""
        return tuple(self._books.movements)

    def free_uj(self, site: str, hour: int, basis: Basis = "green") -> int:
        """Return what is matched and not sold of an hour, uJ."""
        return self._books.balance(available(f"site:{site}"), unit_of(site, hour, basis))

    def sold_uj(self, site: str, hour: int, basis: Basis = "green") -> int:
        """Return what is sold of an hour, uJ."""
        offered_uj = -self._books.balance(MATCHED, unit_of(site, hour, basis))
        return offered_uj - self.free_uj(site, hour, basis)

    def offer(self, match: HourMatch) -> bool:
        """Offer what is matched of an hour; return whether any of it is new.

        Raises:
            GreenError: Another amount of this hour was offered.
        """
        is_new = [self._books.move(each) for each in offered(match)]
        return any(is_new)

    def sell(
        self,
        receipt: str,
        site: str,
        hour: int,
        tenant: str,
        amount_uj: int,
        *,
        basis: Basis = "green",
    ) -> bool:
        """Sell green energy; return whether it is new. The same sale again changes nothing.

        Args:
            receipt: Id of the receipt.
            site: The site.
            hour: The hour.
            tenant: The buyer.
            amount_uj: What is sold, above 0, uJ.
            basis: What it is.

        Raises:
            OversoldError: Less is matched and unsold.
            GreenError: Something else was sold with this id.
        """
        movement = sold(receipt, site, hour, tenant, amount_uj, basis=basis)
        free_uj = self.free_uj(site, hour, basis)
        if free_uj < amount_uj and not self._books.has(movement.cause, movement.kind):
            asked = f"asked to sell {amount_uj} uJ of hour {hour} as {basis}"
            found = f"found {free_uj} uJ ({free_uj // UJ_PER_WH} Wh) matched and not sold"
            raise OversoldError(f"site {site}: {asked}, {found}")
        return self._books.move(movement)
