"""What a site did in an interval, and from which source its power came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

GRID, BATTERY = "grid", "battery"


@dataclass(frozen=True, slots=True)
class Settled:
    """Mean powers over an interval, W at the site.

    Attributes:
        site_w: What the site drew.
        battery_w: What the battery gave; negative while it was charged.
        curtailed_w: Supply that was neither drawn nor stored nor kept in reserve.
        sources_w: What was taken from each source, `wind`, `sun`, `grid`, `battery` or another
            name: together draw and charge. Empty while a supply is stale or missing.
    """

    site_w: float = 0.0
    battery_w: float = 0.0
    curtailed_w: float = 0.0
    sources_w: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a supply offered in an interval.

    Attributes:
        source: What it is, such as `wind` or `grid`.
        firm: Whether it is bought power.
        watts: Its mean power, W.
    """

    source: str
    firm: bool
    watts: float


def taken_w(site_w: float, battery_w: float, offers: Sequence[Offer]) -> dict[str, float]:
    """Return what a site took from each source, W.

    The battery's part comes first, then what is not bought, each by what it offers; bought power
    covers the rest, and so does the grid where the draw is above all that was offered.

    Args:
        site_w: What the site drew, W.
        battery_w: What the battery gave, W; negative while it was charged.
        offers: What the supplies offered.
    """
    found = {offer.source: 0.0 for offer in offers}
    if battery_w > 0:
        found[BATTERY] = min(battery_w, site_w)
    left_w = max(0.0, site_w - battery_w)
    for firm in (False, True):
        offered = [offer for offer in offers if offer.firm == firm]
        whole_w = sum(offer.watts for offer in offered)
        share = min(1.0, left_w / whole_w) if whole_w > 0 else 0.0
        for offer in offered:
            found[offer.source] += share * offer.watts
        left_w -= share * whole_w
    if left_w > 1e-9:
        found[GRID] = found.get(GRID, 0.0) + left_w
    return found
