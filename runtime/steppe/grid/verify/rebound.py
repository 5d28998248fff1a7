"""What comes back after an event: draw beyond the baseline, and its energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steppe.grid.verify.delivery import PPM, Direction
from steppe.ledger.tariff import divided


@dataclass(frozen=True, slots=True)
class Rebound:
    """The time after an event; after one that asked for more, it is a draw below the baseline.

    Attributes:
        span_s: How long was looked, s.
        peak_w: Largest difference beyond the baseline, W; not below 0.
        peak_ppm: Largest share of the baseline by which it was exceeded, 10^-6.
        snapback_j: Energy beyond the baseline, J.
        unmetered: Intervals without a reading.
    """

    span_s: int
    peak_w: int
    peak_ppm: int
    snapback_j: int
    unmetered: int


def rebound_of(
    direction: Direction, interval_s: int, baseline: Sequence[int], load: Sequence[int | None]
) -> Rebound:
    """Return the rebound in the intervals after an event.

    Args:
        direction: What the event asked for.
        interval_s: Length of an interval, s.
        baseline: What would have been drawn in each interval, W.
        load: What was drawn, W; None without a reading.
    """
    peak_w = peak_ppm = excess_w = 0
    for base_w, load_w in zip(baseline, load, strict=True):
        if load_w is None:
            continue
        beyond_w = max(0, -direction.change_w(base_w, load_w))
        peak_w, excess_w = max(peak_w, beyond_w), excess_w + beyond_w
        if base_w > 0:
            peak_ppm = max(peak_ppm, divided(beyond_w * PPM, base_w))
    unmetered = sum(each is None for each in load)
    return Rebound(len(load) * interval_s, peak_w, peak_ppm, excess_w * interval_s, unmetered)
