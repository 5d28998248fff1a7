"""What a rendering says of the site beside the offer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OfferingSite:
    """The site of an offer.

    Attributes:
        name: Its name at the grid.
        baseline_w: What it draws without a call, W.
        most_w: Most that it ever draws, W.
        default_w: What holds where the grid asks for nothing, W.
        currency: ISO 4217 code of the prices of the offer; empty if they are in none.
    """

    name: str
    baseline_w: float
    most_w: float
    default_w: float
    currency: str = ""
