"""An offer as messages of S2: power constraints and operation modes."""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

from steppe.grid.offers.offer import FlexOffer
from steppe.grid.renderings.site import OfferingSite
from steppe.grid.s2.control import power_constraints, system_description
from steppe.grid.s2.offered import bounds_of, modes_of


def s2_messages(offer: FlexOffer, site: OfferingSite, now_s: float) -> list[str]:
    """Return PEBC.PowerConstraints and OMBC.SystemDescription as JSON.

    Args:
        offer: What is offered.
        site: The site.
        now_s: Time, s since the Unix epoch.
    """
    base = f"steppe:{site.name}:{offer.id}"
    bounds = bounds_of(offer, site.baseline_w, site.most_w)
    modes = modes_of(offer, site.baseline_w, site.most_w)
    ids = [str(uuid5(NAMESPACE_URL, f"{base}:mode {number}")) for number in range(len(modes))]
    return [
        power_constraints(bounds, str(uuid5(NAMESPACE_URL, f"{base}:constraints")), now_s),
        system_description(modes, ids, offer, now_s, with_costs=bool(site.currency)),
    ]
