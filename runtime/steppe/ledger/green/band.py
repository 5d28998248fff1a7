"""Which band of a tariff holds now: whether there is renewable power that nothing else uses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from steppe.ledger.tariff import Band

OLD_S = 10.0
"""Age from which a state of the fleet says nothing about now, s."""


def band_of(power: Mapping[str, Any], age_s: float) -> Band:
    """Return the band of a request that is admitted now.

    `surplus` needs renewable power above all that the GPUs draw. What is bought, what a battery
    gives, and what is unknown is none.

    Args:
        power: The part `power` of the state of the fleet, as the gateway's `/steppe/v1/status` has
            it; empty before the first tick.
        age_s: Age of that state, s; not a number before the first tick.
    """
    surplus_w, draw_w = power.get("surplus_w"), power.get("draw_w")
    if math.isnan(age_s) or age_s > OLD_S or power.get("stale", True):
        return "normal"
    if not isinstance(surplus_w, int | float) or not isinstance(draw_w, int | float):
        return "normal"
    return "surplus" if surplus_w > draw_w else "normal"
