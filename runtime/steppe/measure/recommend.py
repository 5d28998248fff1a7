"""Which measured operating point to choose, or why the measurements do not show it.

A point is recommended only when it is reliable and its 95 % interval overlaps that of no other
point. Otherwise the reason says how to measure again: the half-widths of intervals over windows
shrink with the square root of the measured time, so two points whose half-widths add up to `h`
and whose values differ by `d` are separated by windows `(h / d)^2` times as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steppe.measure.statistics import Interval
from steppe.measure.sweep.result import Flag
from steppe.measure.sweep.summary import PointSummary

RELIABLE_SHARE = 0.1
"""Half-width of the interval of J/token that longer windows should reach, share."""
LONGEST_WINDOW_S = 600.0
"""Points that only longer windows would separate count as equal, s."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A point to choose for one aim, if the measurements allow it.

    Attributes:
        letter: How charts mark it.
        aim: The aim, in words.
        point: The point; None when there is none to recommend.
        reason: What it costs or saves beside another point; without a point, why there is none
            and what to do.
    """

    letter: str
    aim: str
    point: PointSummary | None
    reason: str


def recommend(
    points: Sequence[PointSummary], slo_s: float, settle_s: float
) -> tuple[Recommendation, ...]:
    """Return recommendations for least energy, most tokens, and an SLO.

    Args:
        points: Sound points of one load; at least one.
        slo_s: Longest gap between two tokens of a sequence, s.
        settle_s: Longest wait for the temperature in this sweep, s.
    """
    fastest = max(points, key=lambda p: p.output_tps.value)
    leanest = min(points, key=lambda p: p.energy_per_output_token.value)
    within = [p for p in points if p.worst_gap_s is not None and p.worst_gap_s <= slo_s]
    quick = min(within, key=lambda p: p.energy_per_output_token.value, default=None)
    gap = f"{1000 * slo_s:.0f} ms"
    quick_reason = f"No measured point stays within {gap}."
    if quick is not None:
        quick_reason = _doubt(quick, within, _joules, settle_s)
    lean_reason = _doubt(leanest, points, _joules, settle_s)
    candidates = (
        ("the fewest joules per token", leanest, fastest, lean_reason),
        ("the most tokens per second", fastest, leanest, _doubt(fastest, points, _rate, settle_s)),
        (f"the fewest joules with at most {gap} between tokens", quick, fastest, quick_reason),
    )
    return tuple(
        Recommendation(letter, aim, None, doubt)
        if point is None or doubt
        else Recommendation(letter, aim, point, _beside(point, other))
        for letter, (aim, point, other, doubt) in zip("ABC", candidates, strict=True)
    )


def _joules(point: PointSummary) -> Interval:
    return point.energy_per_output_token


def _rate(point: PointSummary) -> Interval:
    return point.output_tps


def _doubt(
    best: PointSummary,
    points: Sequence[PointSummary],
    quantity: Callable[[PointSummary], Interval],
    settle_s: float,
) -> str:
    """Return why the best point cannot be recommended; empty if it can."""
    if best.doubts:
        flags = " and ".join(best.doubts)
        todo = " ".join(_remedy(best, flag, settle_s) for flag in best.doubts)
        return f"No recommendation: the best point ({best.name}) is flagged: {flags}. {todo}"
    if not quantity(best).is_bounded:
        return "No recommendation: too few windows for an interval. Measure with `--windows 5`."
    rivals = [p for p in points if p is not best and quantity(p).overlaps(quantity(best))]
    if not rivals:
        return ""
    names = "; ".join(point.name for point in (best, *rivals))
    head = f"No recommendation: the 95 % intervals of {len(rivals) + 1} points overlap ({names})."
    needed_s = [_separating_window_s(quantity(best), quantity(p), p.window_s) for p in rivals]
    separable_s = [window_s for window_s in needed_s if window_s <= LONGEST_WINDOW_S]
    if separable_s:
        longest_s = math.ceil(max(separable_s))
        return f"{head} Measure them again with longer windows: `--window {longest_s}`."
    spread = max(abs(quantity(p).value / quantity(best).value - 1) for p in rivals)
    return (
        f"{head} They lie within {spread:.1%} of each other, and even windows of "
        f"{LONGEST_WINDOW_S:.0f} s would not separate them. Choose any of them."
    )


def _remedy(point: PointSummary, flag: Flag, settle_s: float) -> str:
    if flag is Flag.UNSETTLED:
        return f"Let the temperature settle for longer: `--settle {math.ceil(2 * settle_s) or 15}`."
    if flag is Flag.YOUNG:
        return "The batch did not turn over in time: measure shorter outputs, `--output`."
    factor = (point.energy_per_output_token.relative_half_width / RELIABLE_SHARE) ** 2
    if not math.isfinite(factor):
        return "Measure more windows: `--windows 10`."
    return f"Measure longer windows: `--window {math.ceil(factor * point.window_s)}`."


def _separating_window_s(best: Interval, rival: Interval, window_s: float) -> float:
    """Return the window length that separates two overlapping intervals, s."""
    gap = abs(rival.value - best.value)
    if not gap or not rival.is_bounded:
        return math.inf
    if rival.value > best.value:
        widths = (best.high - best.value) + (rival.value - rival.low)
    else:
        widths = (best.value - best.low) + (rival.high - rival.value)
    return window_s * (widths / gap) ** 2


def _beside(point: PointSummary, other: PointSummary) -> str:
    """Return what a point costs and saves beside another."""
    if point is other:
        return "It is the leanest and the fastest point at once."
    energy = _joules(point).value / _joules(other).value - 1
    speed = _rate(point).value / _rate(other).value - 1
    name = other.name.replace("MHz, ", "MHz and ")
    return f"{energy:+.0%} energy per token and {speed:+.0%} tokens/s beside {name}."
