"""Offers and commitments as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from steppe.grid.offers.commitments import Commitment, broken, free_w
from steppe.grid.offers.offer import OfferedPower
from steppe.grid.offers.site_offer import SiteOffer
from steppe.grid.plan.terms import JOULES_PER_MWH

Json = dict[str, Any]


def shown_offer(found: SiteOffer, promised: Sequence[Commitment]) -> Json:
    """Return an offer, and how many of its watts are not promised.

    Args:
        found: The offer.
        promised: The commitments of the site.
    """
    offer = found.offer
    free = free_w(offer, promised, offer.from_s, offer.until_s)
    return {
        "object": "steppe.flex_offer",
        "id": offer.id,
        "from": offer.from_s,
        "until": offer.until_s,
        "call": asdict(offer.down.call),
        "down": shown_power(offer.down, found.down_reason, max(0, free.down_w)),
        "up": shown_power(offer.up, found.up_reason, max(0, free.up_w)),
        "broken": [one.id for one in broken(promised, offer)],
    }


def shown_power(power: OfferedPower, reason: str, free_watts: int) -> Json:
    """Return what is offered in one direction."""
    return {
        "watts": power.watts,
        "free_w": free_watts,
        "reason": reason,
        "steps": [
            {"watts": step.watts, "price_per_mwh": step.price * JOULES_PER_MWH}
            for step in power.steps
        ],
        "price_per_mwh": power.price * JOULES_PER_MWH,
        "ramp_w_per_s": power.ramp_w_per_s,
        "sure_w": {f"{confidence:g}": watts for confidence, watts in power.sure_w},
        "tokens_per_j": power.tokens_per_j,
        "slo_tokens_per_j": power.slo_tokens_per_j,
        "rebound": asdict(power.rebound),
        "recovery_s": power.recovery_s,
    }


def shown_commitment(one: Commitment) -> Json:
    """Return a commitment."""
    return {
        "object": "steppe.commitment",
        "id": one.id,
        "site": one.site,
        "programme": one.programme,
        "from": one.from_s,
        "until": one.until_s,
        "taken_until": one.taken_until_s,
        "down_w": one.down_w,
        "up_w": one.up_w,
        "recovery_s": one.recovery_s,
        "offer": one.offer,
    }
