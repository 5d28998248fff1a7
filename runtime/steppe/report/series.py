"""A run's ticks as arrays for drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.report.grid_series import GridSeries, grid_series_of
from steppe.report.pool_series import PoolSeries, pool_series_of
from steppe.report.records import ReplicaTick, TickRecord
from steppe.report.tracking import PowerTrace

Floats = NDArray[np.float64]

MOST_POINTS = 600
"""A figure ten inches wide shows no more."""


@dataclass(frozen=True, slots=True, eq=False)
class RunSeries:
    """What a figure shows, one value a point; a point is the mean of `ticks_per_point` ticks.

    Attributes:
        ticks_per_point: Ticks that one point covers.
        edges_s: Begin of the first point and the end of every point, s; (n + 1,).
        supply_w: Power offered, W; (n,).
        stale: Share of the point in which the supply was stale or missing; (n,).
        battery_w: What the battery gave, W; took, below 0; (n,).
        budget_w: Power budget, W; (n,).
        draw_w: Draw, W; (n,).
        batch_w: The part of the draw that batch work is, W; (n,).
        over_w: Largest excess of the draw over the budget in any tick of the point, W; (n,).
        output_tps: Output tokens per second; (n,).
        demand_tps: Output tokens per second asked for; (n,).
        tokens_per_joule: Output tokens per joule over `smooth_s`, nan without joules; (n,).
        smooth_s: Length of the sliding window of `tokens_per_joule`, s.
        awake: Replicas awake; (n,).
        replicas: Replicas known; (n,).
        clocks_mhz: Clock limit of each replica by id, nan unless awake, MHz; (n,) each.
        batch_limits: Batch limit of each replica by id, nan unless awake; (n,) each.
        pools: What is shown of several pools.
        grid: What the grid allowed; None if it never asked anything.
    """

    ticks_per_point: int
    edges_s: Floats
    supply_w: Floats
    stale: Floats
    battery_w: Floats
    budget_w: Floats
    draw_w: Floats
    batch_w: Floats
    over_w: Floats
    output_tps: Floats
    demand_tps: Floats
    tokens_per_joule: Floats
    smooth_s: float
    awake: Floats
    replicas: Floats
    clocks_mhz: dict[str, Floats]
    batch_limits: dict[str, Floats]
    pools: PoolSeries
    grid: GridSeries | None = None


def series_of(ticks: Sequence[TickRecord]) -> RunSeries:
    """Take the series of at least one tick, thinned to at most `MOST_POINTS` points."""
    trace = PowerTrace.from_ticks(ticks)
    ticks_per_point = -(-len(ticks) // MOST_POINTS)
    first = np.arange(0, len(ticks), ticks_per_point)

    def mean(value_of: Callable[[TickRecord], float]) -> Floats:
        values = np.array([value_of(tick) for tick in ticks], dtype=np.float64)
        return _point_means(values, trace.width_s, first)

    begin_s = trace.end_s - trace.width_s
    edges_s = np.append(begin_s[first], trace.end_s[-1])
    smooth_s = max(10.0, (edges_s[-1] - edges_s[0]) / 48)
    return RunSeries(
        ticks_per_point=ticks_per_point,
        edges_s=edges_s,
        supply_w=mean(lambda tick: tick.supply_w),
        stale=mean(lambda tick: float(tick.stale)),
        battery_w=mean(lambda tick: 0.0 if tick.battery is None else tick.battery.power_w),
        budget_w=mean(lambda tick: tick.budget_w),
        draw_w=mean(lambda tick: tick.draw_w),
        batch_w=mean(lambda tick: 0.0 if tick.batch is None else tick.batch.draw_w),
        over_w=np.maximum.reduceat(np.maximum(0.0, trace.draw_w - trace.budget_w), first),
        output_tps=mean(lambda tick: tick.output_tps),
        demand_tps=mean(lambda tick: tick.demand_tps),
        tokens_per_joule=_tokens_per_joule(ticks, begin_s[0], edges_s, smooth_s),
        smooth_s=smooth_s,
        awake=mean(lambda tick: len(tick.awake)),
        replicas=mean(lambda tick: len(tick.replicas)),
        clocks_mhz=_knob(ticks, trace.width_s, first, lambda replica: replica.clock_mhz),
        batch_limits=_knob(ticks, trace.width_s, first, lambda replica: replica.batch_limit),
        pools=pool_series_of(ticks, mean),
        grid=grid_series_of(ticks, mean),
    )


def _point_means(values: Floats, width_s: Floats, first: NDArray[np.int_]) -> Floats:
    """Return the time-weighted mean of the known values from each `first` to the next."""
    weight_s = np.where(np.isnan(values), 0.0, np.maximum(width_s, 1e-9))
    total = np.add.reduceat(np.nan_to_num(values) * weight_s, first)
    known_s = np.add.reduceat(weight_s, first)
    return np.where(known_s > 0, total / np.where(known_s > 0, known_s, 1.0), np.nan)


def _knob(
    ticks: Sequence[TickRecord],
    width_s: Floats,
    first: NDArray[np.int_],
    setting_of: Callable[[ReplicaTick], int],
) -> dict[str, Floats]:
    """Return one knob of each replica, nan where it was not awake."""
    ids = dict.fromkeys(replica.id for tick in ticks for replica in tick.replicas)
    settings = {name: np.full(len(ticks), np.nan) for name in ids}
    for index, tick in enumerate(ticks):
        for replica in tick.awake:
            settings[replica.id][index] = setting_of(replica)
    return {name: _point_means(values, width_s, first) for name, values in settings.items()}


def _tokens_per_joule(
    ticks: Sequence[TickRecord], begin_s: float, edges_s: Floats, smooth_s: float
) -> Floats:
    """Return tokens over joules of the `smooth_s` around each point: a ratio of sums."""
    ends_s = [begin_s, *(tick.t_s for tick in ticks)]
    tokens = np.cumsum([0.0, *(tick.output_tokens for tick in ticks)])
    energy_j = np.cumsum([0.0, *(tick.energy_j for tick in ticks)])
    middle_s = (edges_s[:-1] + edges_s[1:]) / 2
    late_s, early_s = middle_s + smooth_s / 2, middle_s - smooth_s / 2
    tokens_in = np.interp(late_s, ends_s, tokens) - np.interp(early_s, ends_s, tokens)
    energy_in_j = np.interp(late_s, ends_s, energy_j) - np.interp(early_s, ends_s, energy_j)
    drawn = energy_in_j > 0
    return np.where(drawn, tokens_in / np.where(drawn, energy_in_j, 1.0), np.nan)
