"""The pools of a run, and the variants of its aliases, as arrays for drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.report.records import PoolTick, TickRecord

Floats = NDArray[np.float64]
Thinned = Callable[[Callable[[TickRecord], float]], Floats]
"""From a value of a tick to its mean in each point of the figure."""


@dataclass(frozen=True, slots=True, eq=False)
class PoolSeries:
    """What a figure shows of several pools, one value a point.

    Attributes:
        draw_w: Draw of each pool by name, W; (n,) each.
        awake: Replicas awake of each pool; (n,) each.
        variants: Share of each model in the requests for each alias; (n,) each.
    """

    draw_w: dict[str, Floats]
    awake: dict[str, Floats]
    variants: dict[str, dict[str, Floats]]


def pool_series_of(ticks: Sequence[TickRecord], thinned: Thinned) -> PoolSeries:
    """Take the series of a run; empty where there is only one pool.

    Args:
        ticks: Its ticks.
        thinned: Takes the mean of a value over each point.
    """
    names = list(dict.fromkeys(pool.name for tick in ticks for pool in tick.pools))
    aliases = dict.fromkeys(alias for tick in ticks for alias in tick.variants)
    return PoolSeries(
        draw_w={name: thinned(_of_pool(name, lambda pool: pool.draw_w)) for name in names},
        awake={name: thinned(_of_pool(name, lambda pool: float(pool.awake))) for name in names},
        variants={
            alias: {name: thinned(_share(alias, name)) for name in _served(ticks, alias)}
            for alias in aliases
        },
    )


def _of_pool(name: str, value_of: Callable[[PoolTick], float]) -> Callable[[TickRecord], float]:
    def of_tick(tick: TickRecord) -> float:
        return sum(value_of(pool) for pool in tick.pools if pool.name == name)

    return of_tick


def _share(alias: str, model: str) -> Callable[[TickRecord], float]:
    return lambda tick: tick.variants.get(alias, {}).get(model, 0.0)


def _served(ticks: Sequence[TickRecord], alias: str) -> list[str]:
    return list(dict.fromkeys(name for tick in ticks for name in tick.variants.get(alias, ())))
