"""Which operating points a fleet can keep, by the clocks that it can set."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Sequence
from dataclasses import replace

from steppe.frontier.pareto import Frontier
from steppe.frontier.point import OperatingPoint

_log = logging.getLogger(__name__)


def without_clock_limits(frontier: Frontier, rest_w: float) -> Frontier:
    """Return the points at the highest clock: all that a fleet can keep whose clocks are free.

    A frontier that was measured on such a fleet itself knows one clock only, and stays.

    Args:
        frontier: Operating points of one replica.
        rest_w: What a replica draws without work while its clock is free, W.
    """
    known = frontier.candidates
    highest_mhz = max(point.clock_mhz for point in known)
    # What only lower clocks beat is the best there is without them.
    points = [point for point in known if point.clock_mhz == highest_mhz]
    if len(points) < len(known):
        _log.warning(
            "clocks cannot be limited: %d of %d operating points are left, those at %d MHz",
            len(points),
            len(known),
            highest_mhz,
        )
    asleep_w, idle_w = max(frontier.asleep_w, rest_w), max(frontier.idle_w, rest_w)
    return Frontier.of(points, asleep_w, idle_w, frontier.source)


def within_clocks(frontier: Frontier, clocks_mhz: Sequence[int]) -> Frontier:
    """Return the points at clocks that the GPUs know: a plan for another would never be kept.

    A point moves to the highest clock within its own, or to the lowest there is. Of those that
    meet there the one with the largest draw stays.

    Args:
        frontier: Operating points of one replica.
        clocks_mhz: Clocks that can be set, rising, MHz; none: leave all as they are.
    """
    moved: dict[tuple[int, int], OperatingPoint] = {}
    unknown = sorted({p.clock_mhz for p in frontier.candidates} - set(clocks_mhz))
    if not clocks_mhz or not unknown:
        return frontier
    for point in sorted(frontier.candidates, key=lambda point: point.draw_w):
        at = max(0, bisect.bisect_right(clocks_mhz, point.clock_mhz) - 1)
        moved[clocks_mhz[at], point.batch_limit] = replace(point, clock_mhz=clocks_mhz[at])
    _log.warning("frontier: asked for clocks of %s MHz, found none such; next lower taken", unknown)
    return Frontier.of(moved.values(), frontier.asleep_w, frontier.idle_w, frontier.source)
