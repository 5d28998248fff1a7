"""An offer as the status of a feed of DSX Flex: between which watts the site can be set."""

from __future__ import annotations

from typing import Any

from steppe.grid.dsx.schedule import Feed, FeedSchedule
from steppe.grid.dsx.status import FeedReport, Ramp, status_content
from steppe.grid.offers.offer import FlexOffer
from steppe.grid.renderings.site import OfferingSite


def dsx_status(offer: FlexOffer, site: OfferingSite, now_s: float) -> dict[str, Any]:
    """Return the content of a status with one feed, which is named as the site.

    Args:
        offer: What is offered.
        site: The site.
        now_s: Time, s since the Unix epoch.
    """
    minimum_w = max(0.0, site.baseline_w - offer.down.watts)
    maximum_w = max(site.most_w, minimum_w)
    default_w = min(max(site.default_w, minimum_w), maximum_w)
    feed = Feed(site.name, minimum_w, maximum_w, default_w)
    report = FeedReport(site.baseline_w, Ramp(default_w), "periodic")
    return status_content({feed.tag: FeedSchedule(feed)}, {feed.tag: report}, now_s)
