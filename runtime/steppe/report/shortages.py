"""Shortages of the budget: how they are written down, and how people are told."""

from __future__ import annotations

from collections.abc import Sequence

from steppe.control.shortage_forecast import Level, ShortageForecast
from steppe.report.quantities import quantity, span
from steppe.report.records import ShortageTick

WORDS: dict[Level, str] = {"floor": "the sleeping fleet", "demand": "the demand at the SLO"}
"""What a budget can be short of, in words."""


def shortage_ticks(outlook: ShortageForecast) -> tuple[ShortageTick, ...]:
    """Return what a tick writes down of an outlook."""
    return tuple(
        ShortageTick(of, shortage.short_w, shortage.begins_in_s, shortage.ends_in_s)
        for of, shortage in outlook.shortages
    )


def first_to_tell(shortages: Sequence[ShortageTick]) -> ShortageTick | None:
    """Return the shortage that begins first, the floor's before the demand's; None without any."""
    ordered = sorted(shortages, key=lambda shortage: (shortage.begins_in_s, shortage.of != "floor"))
    return ordered[0] if ordered else None


def shortage_text(shortage: ShortageTick) -> str:
    """Return a line such as `budget 9.00 W short of the sleeping fleet in 4:05, enough in 9:30`."""
    what = f"budget {quantity(shortage.short_w, 'W')} short of {WORDS[shortage.of]}"
    when = "" if shortage.is_here else f" in {span(shortage.begins_in_s)}"
    end = (
        "no end in the forecast"
        if shortage.ends_in_s is None
        else f"enough in {span(shortage.ends_in_s)}"
    )
    return f"{what}{when}, {end}"
