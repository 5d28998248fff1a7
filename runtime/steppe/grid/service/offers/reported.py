"""What reports to a server of the grid call available."""

from __future__ import annotations

from collections.abc import Sequence

from steppe.grid.offers.offer import FlexOffer
from steppe.grid.service.offers.offering import Offering
from steppe.grid.service.openadr_part import present_offers
from steppe.grid.service.seam import GridView


class ReportedOffers:
    """What the site could give now, and the offers for the longest calls.

    An offer for a shorter call may have more watts, which are not there for a whole interval.
    """

    def __init__(self, offering: Offering) -> None:
        """Keep the offers of the site."""
        self._offering = offering
        self._hold_s = max(call.hold_s for call in offering.calls)

    def __call__(self, view: GridView) -> Sequence[FlexOffer]:
        """Return them.

        Args:
            view: What the controller has.
        """
        made = [each.offer for each in self._offering.offers]
        longest = [each for each in made if each.down.call.hold_s == self._hold_s]
        return [*present_offers(view), *longest]
