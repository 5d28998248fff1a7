"""How well a draw followed the target of an event, second by second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt

from steppe.errors import UsageError
from steppe.ledger.tariff import divided

PPM = 1_000_000
CRITICAL_PPM = 200_000
"""A breach of more than this share of the target is critical, one up to it a warning (DSX Flex)."""


@dataclass(frozen=True, slots=True)
class Following:
    """How the draw followed a target that it may not exceed.

    Attributes:
        seconds: Time with a target and a reading, s.
        rmse_w: Root of the mean squared difference, W, rounded down.
        nrmse_ppm: The same over the mean target, 10^-6; 0 for a target of 0 W.
        mean_error_ppm: Mean of draw less target over the mean target, 10^-6; 0 likewise.
        overshoot_j: Energy above the target, J.
        peak_w: Most by which it was exceeded, W.
        peak_ppm: Largest share of the target by which it was exceeded, 10^-6; 0 W count as 1 W.
        over_band_s: Time above the target and its band, s.
        warnings: Breaches of at most 20 %.
        criticals: Breaches of more.
        unmetered_s: Time with a target and no reading, s.
        settled_s: Time from the begin until the draw stays at or below the target and its band, s;
            None if it does not.
    """

    seconds: int
    rmse_w: int
    nrmse_ppm: int
    mean_error_ppm: int
    overshoot_j: int
    peak_w: int
    peak_ppm: int
    over_band_s: int
    warnings: int
    criticals: int
    unmetered_s: int
    settled_s: int | None = None


def following_of(
    interval_s: int,
    target: Sequence[int | None],
    load: Sequence[int | None],
    band_ppm: int = 50_000,
) -> Following | None:
    """Return how a draw followed a target; None without an interval that has both.

    Args:
        interval_s: Length of an interval, s; 1 or a few.
        target: What may be drawn in each interval, W; None where there is no target.
        load: What was drawn, W; None without a reading.
        band_ppm: How much of the target the draw may be above it and count as settled, 10^-6.

    Raises:
        UsageError: The two are not equally long.
    """
    if len(target) != len(load):
        found = f"found {len(target)} and {len(load)}"
        raise UsageError(f"tracking: asked for as many targets as draws, {found}")
    asked = [(t, w) for t, w in zip(target, load, strict=True) if t is not None]
    both = [(t, w) for t, w in asked if w is not None]
    if not both:
        return None
    count, target_w = len(both), sum(t for t, _ in both)
    errors = [w - t for t, w in both]
    squares = count * sum(each * each for each in errors)
    late = [
        number for number, (t, w) in enumerate(asked) if w is None or _is_over_band(t, w, band_ppm)
    ]
    settled = late[-1] + 1 if late else 0
    peaks = list(_breaches(asked))
    return Following(
        seconds=count * interval_s,
        rmse_w=isqrt(squares) // count,
        nrmse_ppm=isqrt(squares * PPM * PPM) // target_w if target_w > 0 else 0,
        mean_error_ppm=divided(sum(errors) * PPM, target_w) if target_w > 0 else 0,
        overshoot_j=interval_s * sum(max(0, each) for each in errors),
        peak_w=max(0, *errors),
        peak_ppm=max(peaks, default=0),
        over_band_s=interval_s * sum(_is_over_band(t, w, band_ppm) for t, w in both),
        warnings=sum(peak <= CRITICAL_PPM for peak in peaks),
        criticals=sum(peak > CRITICAL_PPM for peak in peaks),
        unmetered_s=(len(asked) - count) * interval_s,
        settled_s=settled * interval_s if settled < len(asked) else None,
    )


def _is_over_band(target_w: int, load_w: int, band_ppm: int) -> bool:
    return (load_w - target_w) * PPM > band_ppm * max(0, target_w)


def _breaches(asked: Sequence[tuple[int, int | None]]) -> Iterator[int]:
    """Yield the largest excess of each unbroken time above the target, 10^-6 of the target."""
    peak_ppm = 0
    for target_w, load_w in asked:
        over_w = 0 if load_w is None else max(0, load_w - target_w)
        if over_w:
            peak_ppm = max(peak_ppm, -(-over_w * PPM // max(1, target_w)))
        elif peak_ppm and load_w is not None:
            yield peak_ppm
            peak_ppm = 0
    if peak_ppm:
        yield peak_ppm
