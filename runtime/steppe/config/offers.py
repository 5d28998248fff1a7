"""What the site offers the grid."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from steppe.config.section import NonNegative, Positive, Section

Confidence = Annotated[float, Field(ge=0.5, le=0.99)]


class CallSection(Section):
    """A kind of call that the grid may make."""

    notice_s: NonNegative = 60.0
    """Time from the call to the start, s. What acts later is not offered."""
    hold_s: Positive = 900.0
    """Longest time for which a call holds, s."""


class OffersSection(Section):
    """Offers: by how many watts the draw can fall or rise, from when, for how long, how surely.

    They follow from the history of this site, which is kept in `grid.folder`. With too little of
    it, 0 W are offered.
    """

    calls: Annotated[tuple[CallSection, ...], Field(strict=False, min_length=1)] = (CallSection(),)
    """The kinds of calls for which offers are made."""
    confidence: Confidence = 0.9
    """Share of the futures in which the watts that are offered are there."""
    window_s: Positive = 3600.0
    """Length of the time for which one offer is made, s; calls are over by its end."""
    windows: Annotated[int, Field(ge=1, le=192)] = 24
    """How many such times are offered, one after another."""
    sample_s: Annotated[float, Field(ge=1, le=900)] = 300.0
    """Time between two entries of the history, s."""
    history_days: Annotated[float, Field(ge=1, le=366)] = 28.0
    """How long the history is kept, days."""
    token_value_per_million: NonNegative = 0.0
    """What a million output tokens are worth that cannot wait, money."""
    deferrable_value_per_million: NonNegative = 0.0
    """What a million output tokens are worth that can wait, money."""
    late_penalty_per_million: NonNegative = 0.0
    """What a million tokens cost that are late, beside their worth, money."""
    energy_price_per_mwh: float = 0.0
    """What a MWh costs, money."""

    @model_validator(mode="after")
    def _calls_fit(self) -> OffersSection:
        longest_s = max(call.hold_s for call in self.calls)
        if longest_s > self.window_s:
            asked = f"asked for calls of at most window_s, {self.window_s:g} s"
            raise ValueError(f"calls: {asked}, found {longest_s:g} s")
        return self
