"""What a site offers for a window, from its history; and why it offers nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steppe.grid.offers.history import Moment, Past, Window, needed, usable
from steppe.grid.offers.offer import Call, FlexOffer, OfferedPower, offered
from steppe.grid.offers.sources import Source
from steppe.grid.verify.delivery import Direction


@dataclass(frozen=True, slots=True)
class SiteOffer:
    """An offer for a window.

    Attributes:
        offer: The offer.
        down_reason: Why no watts downwards are offered; empty if some are.
        up_reason: The same upwards.
    """

    offer: FlexOffer
    down_reason: str = ""
    up_reason: str = ""


def site_offers(
    site: str, history: Sequence[Moment], now: Moment, windows: Sequence[Window], call: Call
) -> list[SiteOffer]:
    """Return what a site offers in each window.

    Args:
        site: Its name.
        history: What it could give at earlier times, by time.
        now: What it can give now.
        windows: When a call may begin.
        call: Notice, hold time and confidence.
    """
    less, more = (Past(history, call, direction) for direction in Direction)
    found = []
    for window in windows:
        down = _power(less, now, window, call, Direction.LESS)
        up = _power(more, now, window, call, Direction.MORE)
        id_ = f"{site}-{window.from_s:.0f}-{window.until_s:.0f}-{call.hold_s:.0f}"
        offer = FlexOffer(id_, window.from_s, window.until_s, down[0], up[0])
        found.append(SiteOffer(offer, down[1], up[1]))
    return found


def _power(
    past: Past, now: Moment, window: Window, call: Call, direction: Direction
) -> tuple[OfferedPower, str]:
    futures = past.futures(now, window)
    asked = f"{call.confidence:.0%} of the futures"
    if not futures:
        reason = (
            f"too little history: asked for {needed(call.confidence)} earlier times, "
            f"{window.until_s - window.from_s:.0f} s apart, with the "
            f"{window.until_s - now.at_s:.0f} s that followed"
        )
        return _nothing(call), reason
    power = offered(futures, call)
    if power.watts:
        return power, ""
    can_now = sum(one.sustained_w(call.hold_s) for one in usable(now, call, direction))
    return power, f"not in {asked}; now it is {can_now:.0f} W"


def _nothing(call: Call) -> OfferedPower:
    nothing: tuple[Source, ...] = ()
    return offered([nothing], call)
