"""The guard of green tariffs: of each hour no more is sold than was matched.

The matched energy of an hour is a unit of its own, `green:SITE:HOUR`, in uJ. It is offered once,
and a sale takes from it:

    offer      matched -> available           of the site, when the hour is matched
    sell       available -> available         of the tenant
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from steppe.ledger.entries import Kind, Movement, available
from steppe.ledger.green.books import Books, GreenError
from steppe.ledger.green.matching import HourMatch
from steppe.ledger.green.supply import UJ_PER_WH

MATCHED = "matched"
"""The account of what was matched in all hours."""


class OversoldError(GreenError):
    """A green tariff would sell more than was matched."""


def offered(match: HourMatch) -> Movement:
    """Return the movement that offers what is matched of an hour, once."""
    unit = unit_of(match.site, match.hour)
    own = available(f"site:{match.site}")
    return Movement(unit, Kind.DEPOSIT, MATCHED, own, unit, match.green_uj)


def sold(cause: str, site: str, hour: int, tenant: str, green_uj: int) -> Movement:
    """Return the movement of a sale.

    Args:
        cause: Id of the receipt.
        site: The site.
        hour: The hour.
        tenant: The buyer.
        green_uj: What is sold, above 0, uJ.
    """
    giver, unit = available(f"site:{site}"), unit_of(site, hour)
    return Movement(cause, Kind.TRANSFER, giver, available(tenant), unit, green_uj)


def unit_of(site: str, hour: int) -> str:
    """Return the unit of the matched energy of an hour."""
    return f"green:{site}:{hour}"


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

    def free_uj(self, site: str, hour: int) -> int:
        """Return what is matched and not sold of an hour, uJ."""
        return self._books.balance(available(f"site:{site}"), unit_of(site, hour))

    def sold_uj(self, site: str, hour: int) -> int:
        """Return what is sold of an hour, uJ."""
        offered_uj = -self._books.balance(MATCHED, unit_of(site, hour))
        return offered_uj - self.free_uj(site, hour)

    def offer(self, match: HourMatch) -> bool:
        """Offer what is matched of an hour; return whether it is new.

        Raises:
            GreenError: Another amount of this hour was offered.
        """
        return match.green_wh > 0 and self._books.move(offered(match))

    def sell(self, cause: str, site: str, hour: int, tenant: str, green_uj: int) -> bool:
        """Sell green energy; return whether it is new. The same sale again changes nothing.

        Raises:
            OversoldError: Less is matched and unsold.
            GreenError: Something else was sold with this id.
        """
        movement = sold(cause, site, hour, tenant, green_uj)
        free_uj = self.free_uj(site, hour)
        if free_uj < green_uj and not self._books.has(cause, Kind.TRANSFER):
            asked = f"asked to sell {green_uj} uJ of hour {hour} as green"
            found = f"found {free_uj} uJ ({free_uj // UJ_PER_WH} Wh) matched and not sold"
            raise OversoldError(f"site {site}: {asked}, {found}")
        return self._books.move(movement)
