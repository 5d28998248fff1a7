"""What a site offers in the terms of S2: an envelope to choose in, and modes to switch to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steppe.grid.offers.offer import FlexOffer, OfferedPower

MOST_MODES = 28
"""Most modes; the transitions between all pairs of them have to be at most 1000."""
_LONGEST_S = 86400.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which watts a limit may be chosen.

    Attributes:
        floor_w: Lowest limit in a normal condition, W; down to 0 in an abnormal one.
        most_w: Highest limit, W.
        defers: Whether most of what is not drawn is drawn later.
    """

    floor_w: float
    most_w: float
    defers: bool

    def is_near(self, other: Bounds, share: float) -> bool:
        """Whether another says nearly the same: to a share of the highest limit."""
        far_w = max(abs(self.floor_w - other.floor_w), abs(self.most_w - other.most_w))
        return self.defers == other.defers and far_w <= share * max(self.most_w, 1.0)


@dataclass(frozen=True, slots=True)
class Mode:
    """A range of limits that costs the same for each joule.

    Attributes:
        name: Its name, for people.
        low_w: Limit at factor 0, W.
        high_w: Limit at factor 1, W.
        least_cost: Running cost at the high limit, money per second.
        most_cost: Running cost at the low limit, money per second.
        emergency: Whether it is for abnormal conditions only.
    """

    name: str
    low_w: float
    high_w: float
    least_cost: float = 0.0
    most_cost: float = 0.0
    emergency: bool = False

    def watts(self, factor: float) -> float:
        """Return the limit at a factor from 0 to 1, W."""
        return self.low_w + factor * (self.high_w - self.low_w)


def bounds_of(offer: FlexOffer, baseline_w: float, most_w: float) -> Bounds:
    """Return the bounds in which the site follows a limit.

    Args:
        offer: What is offered.
        baseline_w: What the site draws without a call, W.
        most_w: Most that the site ever draws, W.
    """
    floor_w = min(most_w, max(0.0, baseline_w - offer.down.watts))
    called_j = offer.down.watts * offer.down.call.hold_s
    return Bounds(floor_w, most_w, 2 * offer.down.rebound.energy_j > called_j)


def modes_of(offer: FlexOffer, baseline_w: float, most_w: float) -> tuple[Mode, ...]:
    """Return the modes of the site: the normal one, one for each price, and the emergency."""
    top_w = max(baseline_w, most_w)
    modes = [Mode("normal", min(baseline_w, top_w), top_w)]
    high_w, cost = modes[0].low_w, 0.0
    for step in _merged(offer.down):
        low_w = max(0.0, high_w - step[0])
        dearer = cost + (high_w - low_w) * step[1]
        name = f"{high_w - low_w:.0f} W less at {step[1]:.3g} per J"
        modes.append(Mode(name, low_w, high_w, cost, dearer))
        high_w, cost = low_w, dearer
    if high_w > 0.0:
        modes.append(Mode("emergency", 0.0, high_w, cost, cost, emergency=True))
    return tuple(modes)


def mode_at(modes: Sequence[Mode], watts: float) -> tuple[int, float]:
    """Return the number and the factor of the mode of a limit.

    Args:
        modes: The modes, from the highest.
        watts: The limit, W; above all modes it is the first at factor 1.
    """
    for number, mode in enumerate(modes):
        if watts >= mode.low_w or number == len(modes) - 1:
            width_w = mode.high_w - mode.low_w
            share = (watts - mode.low_w) / width_w if width_w > 0.0 else 1.0
            return number, min(1.0, max(0.0, share))
    raise ValueError("there is no mode")


def transition_s(before: Mode, after: Mode, offer: FlexOffer) -> float:
    """Return how long the site takes from one mode to any limit of another, s."""
    is_down = after.low_w < before.low_w
    power = offer.down if is_down else offer.up
    far_w = before.high_w - after.low_w if is_down else after.high_w - before.low_w
    ramp = power.ramp_w_per_s or offer.down.ramp_w_per_s
    needs_s = far_w / ramp if ramp > 0.0 else 0.0
    return min(_LONGEST_S, (power.call.notice_s if is_down else 0.0) + needs_s)


def _merged(power: OfferedPower) -> list[tuple[float, float]]:
    """Return watts and price of each step; the dearest ones as one where there are too many."""
    steps = [(float(each.watts), each.price) for each in power.steps if each.watts > 0]
    if len(steps) <= MOST_MODES:
        return steps
    kept, rest = steps[: MOST_MODES - 1], steps[MOST_MODES - 1 :]
    watts = sum(each for each, _ in rest)
    return [*kept, (watts, sum(w * price for w, price in rest) / watts)]
