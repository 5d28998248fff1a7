"""An offer that was shown as JSON values, as a `FlexOffer` again."""

from __future__ import annotations

from typing import Any

from steppe.errors import UsageError
from steppe.grid.offers.offer import Call, FlexOffer, OfferedPower, PriceStep, Rebound
from steppe.grid.plan.terms import JOULES_PER_MWH

Json = dict[str, Any]


def free_offer(shown: Json) -> FlexOffer:
    """Return what is free of an offer: promised watts are taken from the cheapest steps.

    Args:
        shown: An offer of `GET /steppe/v1/flexibility`.

    Raises:
        UsageError: It is none.
    """
    try:
        call = Call(**shown["call"])
        down, up = (_power(shown[way], call) for way in ("down", "up"))
        return FlexOffer(shown["id"], shown["from"], shown["until"], down, up)
    except (KeyError, TypeError, ValueError) as error:
        found = f"{type(error).__name__}: {error}"
        raise UsageError(f"offer: asked for one as this version shows it, found {found}") from error


def _power(shown: Json, call: Call) -> OfferedPower:
    """Return a direction without what is promised; rebound and ramp fall by the same share."""
    steps, taken_w = [], max(0, shown["watts"] - shown["free_w"])
    for step in shown["steps"]:
        free_w = max(0, step["watts"] - taken_w)
        taken_w = max(0, taken_w - step["watts"])
        if free_w:
            steps.append(PriceStep(free_w, step["price_per_mwh"] / JOULES_PER_MWH))
    share = sum(step.watts for step in steps) / shown["watts"] if shown["watts"] else 0.0
    rebound = Rebound(**shown["rebound"])
    return OfferedPower(
        steps=tuple(steps),
        call=call,
        ramp_w_per_s=share * shown["ramp_w_per_s"],
        sure_w=tuple((float(sure), watts) for sure, watts in shown["sure_w"].items()),
        tokens_per_j=shown["tokens_per_j"],
        slo_tokens_per_j=shown["slo_tokens_per_j"],
        rebound=Rebound(share * rebound.energy_j, rebound.within_s),
        recovery_s=shown["recovery_s"],
    )
