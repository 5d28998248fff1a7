"""What a market pays and takes, and what a token is worth."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.grid.plan.terms import QUARTER_S


@dataclass(frozen=True, slots=True)
class MarketTerms:
    """What a market pays and takes, and what a token is worth; all prices are money per joule.

    Attributes:
        token_value: What a token is worth that can wait, money; one that is late costs as much.
        patience: Steps that work may wait.
        intraday_spread: How much worse than day ahead each direction is intraday.
        imbalance_spread: How much worse each direction of imbalance is.
        reserve_price: Paid for each watt and second of reserve downwards that is held ready.
        called_share: Share of the steps in which reserve is called.
        missed_price: Paid for each joule that is called and not given, beside the imbalance.
        early: Steps before it is due by which the plan ends work: a call or more traffic may delay
            it.
        day_steps: Steps of a day.
        step_s: Length of a step, s.
    """

    token_value: float
    patience: int
    intraday_spread: float = 0.0
    imbalance_spread: float = 0.0
    reserve_price: float = 0.0
    called_share: float = 0.0
    missed_price: float = 0.0
    early: int = 4
    day_steps: int = 96
    step_s: float = QUARTER_S

    @property
    def gate(self) -> int:
        """Step of the day at which the next day is bought: noon."""
        return self.day_steps // 2
