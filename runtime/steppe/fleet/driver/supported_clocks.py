"""The operating points of a frontier that a fleet can keep, by the clocks that it can set."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Sequence
from dataclasses import replace

from steppe.errors import UsageError
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

_log = logging.getLogger(__name__)


def without_clock_limits(frontier: Frontier, idle_w: float) -> Frontier:
    """Return the points at the highest clock: a fleet without clock limits can keep no others.

    A frontier that was measured on such a fleet has one clock only, and is returned unchanged.

    Args:
        frontier: Operating points of one replica.
        idle_w: What a replica draws without work and without a clock limit, W.
    """
    known = frontier.candidates
    highest_mhz = max(point.clock_mhz for point in known)
    # Also points that only points at lower clocks beat.
    points = [point for point in known if point.clock_mhz == highest_mhz]
    if len(points) < len(known):
        _log.warning(
            "clocks cannot be limited: %d of %d operating points are left, those at %d MHz",
            len(points),
            len(known),
            highest_mhz,
        )
    asleep_w = max(frontier.asleep_w, idle_w)
    return Frontier.of(points, asleep_w, max(frontier.idle_w, idle_w), frontier.source)


def snap_to_supported_clocks(frontier: Frontier, clocks_mhz: Sequence[int]) -> Frontier:
    """Return the points at clocks that the GPUs support: a plan for others would never be kept.

    A point moves to the next lower supported clock. Of points that meet there the one with the
    largest draw stays. A point below all supported clocks is left out: at any of them it would draw
    more than it states.

    Args:
        frontier: Operating points of one replica.
        clocks_mhz: Clocks that can be set, ascending, MHz; empty: return the frontier unchanged.

    Raises:
        UsageError: All points are below these clocks.
    """
    if not clocks_mhz:
        return frontier
    frontier = frontier.unlimited_at(clocks_mhz[-1])
    known = frontier.candidates
    if {point.clock_mhz for point in known} <= set(clocks_mhz):
        return frontier
    moved: dict[tuple[int, int], OperatingPoint] = {}
    for point in sorted(_supported(known, clocks_mhz[0]), key=lambda point: point.draw_w):
        clock_mhz = clocks_mhz[bisect.bisect_right(clocks_mhz, point.clock_mhz) - 1]
        moved[clock_mhz, point.batch_limit] = replace(point, clock_mhz=clock_mhz)
    unknown = sorted({p.clock_mhz for p in known if p.clock_mhz > clocks_mhz[0]} - set(clocks_mhz))
    if unknown:
        _log.warning(
            "frontier: asked for clocks of %s MHz, found none such; next lower taken", unknown
        )
    return Frontier.of(moved.values(), frontier.asleep_w, frontier.idle_w, frontier.source)


def _supported(points: Sequence[OperatingPoint], lowest_mhz: int) -> list[OperatingPoint]:
    supported = [point for point in points if point.clock_mhz >= lowest_mhz]
    if not supported:
        highest_mhz = max(point.clock_mhz for point in points)
        raise UsageError(
            f"frontier: asked for clocks of {highest_mhz} MHz at most, found GPUs with "
            f"{lowest_mhz} MHz at least: measure a frontier on these"
        )
    if len(supported) < len(points):
        _log.warning(
            "frontier: %d of %d operating points are left out, those below %d MHz, the lowest "
            "clock that all GPUs support",
            len(points) - len(supported),
            len(points),
            lowest_mhz,
        )
    return supported
