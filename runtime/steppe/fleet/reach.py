"""Which operating points a fleet can keep that cannot limit its clocks."""

from __future__ import annotations

import logging

from steppe.frontier.pareto import Frontier

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
