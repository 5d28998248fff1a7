"""What the site offers at this moment, without a look at other days."""

from __future__ import annotations

from steppe.grid.offers.offer import Call, FlexOffer, offered
from steppe.grid.offers.sources import Source
from steppe.grid.service.seam import GridView
from steppe.grid.verify.delivery import Direction

_SAME = 9
"""An offer of 90 % asks for nine futures; the present one stands for all of them."""


def present_offer(view: GridView, call: Call, lasts_s: float, given_w: float = 0.0) -> FlexOffer:
    """Return what the site can give now.

    Args:
        view: What the controller has.
        call: Notice and length of a call.
        lasts_s: For how long the present is taken to last, s.
        given_w: Watts below the baseline that are given already, W.
    """
    given = Source("given already", given_w, 0.0, 0.0, 0.0)
    down = [given, *(each for each in view.sources if each.direction is Direction.LESS)]
    up = [each for each in view.sources if each.direction is Direction.MORE]
    return FlexOffer(
        "now",
        view.at_s,
        view.at_s + lasts_s,
        offered([down] * _SAME, call),
        offered([up] * _SAME, call),
    )
