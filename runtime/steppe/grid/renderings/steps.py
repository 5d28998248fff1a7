"""An offer as steps of price and quantity, as markets take bids."""

from __future__ import annotations

from typing import Any

from steppe.grid.offers.offer import FlexOffer, OfferedPower, PriceStep

_J_PER_MWH = 3.6e9


def price_steps(offer: FlexOffer, lot_w: int = 1) -> list[dict[str, Any]]:
    """Return the steps of both directions, the cheapest of each first.

    Each has `direction`, `watts`, `total_watts` with the steps before it, `price_per_mwh`, and the
    times of the offer and the call in s.

    Args:
        offer: What is offered.
        lot_w: Smallest quantity of the market, W; what is less is not offered.

    Raises:
        UsageError: The lot is not above 0.
    """
    found = []
    for direction, power in (("down", offer.down), ("up", offer.up)):
        total_w = 0
        for step in power.lots(lot_w):
            total_w += step.watts
            found.append(_step(direction, power, step, total_w, offer))
    return found


def _step(
    direction: str, power: OfferedPower, step: PriceStep, total_w: int, offer: FlexOffer
) -> dict[str, Any]:
    return {
        "direction": direction,
        "watts": step.watts,
        "total_watts": total_w,
        "price_per_mwh": round(step.price * _J_PER_MWH, 6),
        "from_s": offer.from_s,
        "until_s": offer.until_s,
        "notice_s": power.call.notice_s,
        "hold_s": power.call.hold_s,
        "confidence": power.call.confidence,
    }
