"""What the site offers: watts, from when, how fast, for how long, at what cost and how sure.

An offer is made from futures: each is a list of the sources that there will be then. The watts
that are offered are those that at least the stated share of the futures can give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steppe.errors import UsageError
from steppe.grid.offers.sources import Source

CONFIDENCES = (0.5, 0.9, 0.95, 0.99)
"""Shares of the futures for which an offer says how many watts they give."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a programme may ask for.

    Attributes:
        notice_s: Time from the call to the start, s.
        hold_s: Longest time for which it holds, s.
        confidence: Share of the futures in which the offer has to hold, above 0 and below 1.
    """

    notice_s: float
    hold_s: float
    confidence: float = 0.9


@dataclass(frozen=True, slots=True)
class PriceStep:
    """Watts at one price.

    Attributes:
        watts: How many more than at the price before, whole W.
        price: What each joule costs, money per joule.
    """

    watts: int
    price: float


@dataclass(frozen=True, slots=True)
class Rebound:
    """What is drawn again after a call.

    Attributes:
        energy_j: Energy, J.
        within_s: Time in which it is drawn, s.
    """

    energy_j: float
    within_s: float

    @property
    def mean_w(self) -> float:
        """Mean power of it, W."""
        return self.energy_j / self.within_s if self.within_s > 0.0 else 0.0


@dataclass(frozen=True, slots=True)
class OfferedPower:
    """Power in one direction.

    Attributes:
        steps: What is offered with the stated confidence, from the lowest price.
        call: Notice, hold time and confidence that it holds for.
        ramp_w_per_s: How fast the draw changes, W per second, with the same confidence.
        sure_w: Watts by the share of the futures that give at least as many.
        tokens_per_j: Mean output tokens that are not made, for each joule.
        slo_tokens_per_j: The part of them that misses its SLO.
        rebound: What is drawn again afterwards if all of it is called for the whole time.
        recovery_s: Time until the same watts can be called again, s.
    """

    steps: tuple[PriceStep, ...]
    call: Call
    ramp_w_per_s: float
    sure_w: tuple[tuple[float, int], ...]
    tokens_per_j: float
    slo_tokens_per_j: float
    rebound: Rebound
    recovery_s: float

    @property
    def watts(self) -> int:
        """All that is offered, whole W."""
        return sum(step.watts for step in self.steps)

    @property
    def price(self) -> float:
        """Mean price of a joule if all is called, money; 0 if nothing is offered."""
        cost = sum(step.watts * step.price for step in self.steps)
        return cost / self.watts if self.watts else 0.0

    def lots(self, lot_w: int) -> tuple[PriceStep, ...]:
        """Return the steps in whole lots of a market, such as 100 kW, rounded down.

        What is too little for a lot at one price is sold at the next higher one.

        Raises:
            UsageError: The lot is not above 0.
        """
        if lot_w <= 0:
            raise UsageError(f"asked for a lot above 0 W, found {lot_w}")
        found, sum_w, sold_w = [], 0, 0
        for step in self.steps:
            sum_w += step.watts
            whole_w = sum_w // lot_w * lot_w
            if whole_w > sold_w:
                found.append(PriceStep(whole_w - sold_w, step.price))
                sold_w = whole_w
        return tuple(found)


@dataclass(frozen=True, slots=True)
class FlexOffer:
    """What the site offers for a time.

    Attributes:
        id: Its id.
        from_s: When it begins, s since the Unix epoch.
        until_s: When it ends.
        down: By how much the draw can fall.
        up: By how much it can rise.
    """

    id: str
    from_s: float
    until_s: float
    down: OfferedPower
    up: OfferedPower


def offered(futures: Sequence[Sequence[Source]], call: Call) -> OfferedPower:
    """Return what can be offered in one direction.

    Args:
        futures: The sources in each simulated future.
        call: Notice, hold time and confidence.

    Raises:
        UsageError: There is no future, or a hold time or confidence out of range.
    """
    if not futures or call.hold_s <= 0.0 or not 0.0 < call.confidence < 1.0:
        raise UsageError(
            "asked for an offer from futures, with a hold time above 0 s and a confidence between "
            f"0 and 1, found {len(futures)}, {call.hold_s} and {call.confidence}"
        )
    usable = [[one for one in each if one.notice_s <= call.notice_s] for each in futures]
    steps = _steps(usable, call)
    highest = max((step.price for step in steps), default=-math.inf)
    used = [[one for one in each if one.price <= highest] for each in usable]
    totals_w = [sum(one.sustained_w(call.hold_s) for one in each) for each in usable]
    ramps = [sum(one.ramp_w_per_s for one in each) for each in used]
    watts = sum(step.watts for step in steps)
    share, tokens, slo = _means(used, call.hold_s)
    recovery_s = max((one.recovery_s for each in used for one in each), default=0.0)
    return OfferedPower(
        steps=steps,
        call=call,
        ramp_w_per_s=at_least(ramps, call.confidence),
        sure_w=tuple((c, int(at_least(totals_w, c))) for c in CONFIDENCES),
        tokens_per_j=tokens,
        slo_tokens_per_j=slo,
        rebound=Rebound(share * watts * call.hold_s, max(recovery_s, call.hold_s)),
        recovery_s=recovery_s,
    )


def at_least(values: Sequence[float], confidence: float) -> float:
    """Return what a further value of the same kind reaches with this probability, or 0.

    Of n values the one that k of them do not exceed is reached by the next with the probability
    1 - k / (n + 1). Too few values for the confidence allow no statement, so 0 is returned.
    """
    number = math.floor((1.0 - confidence) * (len(values) + 1) + 1e-9)
    return max(0.0, sorted(values)[number - 1]) if number >= 1 else 0.0


def _steps(futures: Sequence[Sequence[Source]], call: Call) -> tuple[PriceStep, ...]:
    """Return the watts that the confident share of the futures gives, by rising price."""
    steps, sold_w = [], 0
    for price in sorted({one.price for each in futures for one in each}):
        sums_w = [
            sum(one.sustained_w(call.hold_s) for one in each if one.price <= price)
            for each in futures
        ]
        sure_w = math.floor(at_least(sums_w, call.confidence) + 1e-6)
        if sure_w > sold_w:
            steps.append(PriceStep(sure_w - sold_w, price))
            sold_w = sure_w
    return tuple(steps)


def _means(futures: Sequence[Sequence[Source]], hold_s: float) -> tuple[float, float, float]:
    """Return the rebound, tokens and SLO tokens for each joule, as means over all futures."""
    sources = [one for each in futures for one in each]
    weights = [one.sustained_w(hold_s) for one in sources]
    whole = sum(weights)
    if whole <= 0.0:
        return 0.0, 0.0, 0.0
    pairs = list(zip(sources, weights, strict=True))
    return (
        sum(one.rebound_share * w for one, w in pairs) / whole,
        sum(one.tokens_per_j * w for one, w in pairs) / whole,
        sum(one.slo_tokens_per_j * w for one, w in pairs) / whole,
    )
