"""What the grid allowed in a run, as arrays for drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.report.records import GridTick, TickRecord

Floats = NDArray[np.float64]
_NONE = GridTick()


@dataclass(frozen=True, slots=True, eq=False)
class GridSeries:
    """What the grid allowed, one value a point; W at the site, nan where there was none; (n,).

    Attributes:
        site_w: Draw of the site.
        limit_w: The limit in force, of whatever link.
        target_w: What the event allowed.
        baseline_w: What the site drew before the event.
    """

    site_w: Floats
    limit_w: Floats
    target_w: Floats
    baseline_w: Floats


def grid_series_of(
    ticks: Sequence[TickRecord], mean: Callable[[Callable[[TickRecord], float]], Floats]
) -> GridSeries | None:
    """Return what the grid allowed; None if it never asked anything.

    Args:
        ticks: The ticks of the run.
        mean: Returns the mean of a value of the ticks of each point, without those that are nan.
    """
    if all(tick.grid is None for tick in ticks):
        return None

    def of(value_of: Callable[[GridTick], float | None]) -> Floats:
        def known(tick: TickRecord) -> float:
            value = value_of(tick.grid or _NONE)
            return np.nan if value is None else value

        return mean(known)

    return GridSeries(
        site_w=mean(lambda tick: tick.site_w),
        limit_w=of(lambda grid: grid.limit_w),
        target_w=of(lambda grid: grid.target_w),
        baseline_w=of(lambda grid: None if grid.target_w is None else grid.baseline_w),
    )
