"""What energy costs in the end: what was bought, and what was drawn beyond it or less.

Watts and prices are whole numbers here, and so is what is paid: everyone who settles the same
readings comes to the same amount.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steppe.errors import UsageError

JOULES_PER_MWH = 3_600_000_000


@dataclass(frozen=True, slots=True)
class ImbalancePrice:
    """Prices of one step, in millionths of the unit of money per MWh.

    Attributes:
        short: Paid for what is drawn beyond what was bought.
        long: Received for what is drawn less.
    """

    short: int
    long: int


@dataclass(frozen=True, slots=True)
class Imbalance:
    """The settlement of one step.

    Attributes:
        position_w: Bought, W; below zero where sold.
        metered_w: Mean draw from the grid, W; below zero where fed in.
        amount: What the site pays, millionths of the unit of money; below zero it receives.
    """

    position_w: int
    metered_w: int
    amount: int

    @property
    def imbalance_w(self) -> int:
        """Drawn beyond what was bought, W."""
        return self.metered_w - self.position_w


def settled(
    position_w: Sequence[int],
    metered_w: Sequence[int],
    prices: Sequence[ImbalancePrice],
    step_s: int,
) -> tuple[Imbalance, ...]:
    """Return the settlement of each step.

    Raises:
        UsageError: The series have other lengths.
    """
    if not len(position_w) == len(metered_w) == len(prices):
        found = f"{len(position_w)}, {len(metered_w)} and {len(prices)}"
        raise UsageError(f"asked for as many positions as readings and prices, found {found}")
    return tuple(
        _one(bought, drawn, price, step_s)
        for bought, drawn, price in zip(position_w, metered_w, prices, strict=True)
    )


def amount_of(watts: int, price: int, step_s: int) -> int:
    """Return what so many watts cost for a step, millionths, rounded to the nearest.

    Args:
        watts: Power, W.
        price: Millionths of the unit of money per MWh.
        step_s: Length of the step, s.
    """
    return (2 * watts * step_s * price + JOULES_PER_MWH) // (2 * JOULES_PER_MWH)


def _one(bought_w: int, drawn_w: int, price: ImbalancePrice, step_s: int) -> Imbalance:
    over_w = drawn_w - bought_w
    amount = amount_of(over_w, price.short if over_w > 0 else price.long, step_s)
    return Imbalance(bought_w, drawn_w, amount)
