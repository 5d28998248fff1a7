"""The operating points of a replica for the requests that come now.

A sweep measures operating points under requests of one length. From the costs of a step
(`roofline.step_costs`) follow the points for any other length: each has the largest output, the
least batch limit and the latency that these requests give.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from steppe.frontier.load_table import LoadTable, ending_of, load_table, most_ending
from steppe.frontier.pareto import Frontier
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.point import OperatingPoint
from steppe.roofline.step_costs import AS_MODELLED, CostFactors, StepCosts

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
LOADS = 40
"""Loads that are tried for the largest one that keeps the SLO."""
LEAST_LOAD = 0.01
"""The smallest of them, share of what the engine's limits allow."""
BATCH_STEP = 1.3
"""Ratio of two batch limits that follow one another."""
BATCH_DEVIATIONS = 3.0
"""Places in a batch beyond the mean number of requests, standard deviations of a Poisson number."""
_REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class LatencyLimits:
    """The SLO of a request.

    Attributes:
        ttft_s: Longest time to the first token, s.
        tpot_s: Longest time per output token, s.
    """

    ttft_s: float
    tpot_s: float


@dataclass(frozen=True, slots=True)
class PointsNeed:
    """For what points are wanted.

    Attributes:
        lengths: The mean request.
        limits: The SLO.
        batch_limit: Largest batch limit that the engine takes.
        replicas: Replicas that serve the requests.
        factors: Measured over modelled costs.
        tokens_per_step: Most tokens in a step; 0: the engine's own limit.
    """

    lengths: RequestLengths
    limits: LatencyLimits
    batch_limit: int
    replicas: int
    factors: CostFactors = AS_MODELLED
    tokens_per_step: int = 0


@dataclass(frozen=True)
class PointsAtLengths:
    """The points for the requests that come now.

    Attributes:
        full: Points with full batches that keep the time per output token; of all clocks and batch
            limits if none does.
        sustained: For each clock the largest load that keeps the SLO: output and draw are those
            under this load; None if no clock keeps it.
        at_full: For each sustained point what it gives with a full batch.
    """

    full: Frontier
    sustained: Frontier | None
    at_full: Mapping[OperatingPoint, OperatingPoint]


@lru_cache(_REMEMBERED)
def points_at(frontier: Frontier, need: PointsNeed) -> PointsAtLengths:
    """Return the points of a frontier that has the costs of a step; cached."""
    assert frontier.costs is not None, "points for other lengths follow from the costs of a step"
    clocks = sorted({point.clock_mhz for point in frontier.candidates})
    costs = frontier.costs.at(clocks).scaled(need.factors)
    if need.tokens_per_step:
        costs = replace(costs, tokens_per_step=need.tokens_per_step)
    by_full = _sustained(costs, frontier, need)
    sustained = _frontier(by_full, frontier, need) if by_full else None
    return PointsAtLengths(_full(costs, frontier, need), sustained, by_full)


def batch_limits(largest: int) -> Floats:
    """Return the batch limits that points have, rising to the largest."""
    limits = {largest}
    while (largest := int(largest / BATCH_STEP)) >= 1:
        limits.add(largest)
    return np.array(sorted(limits), dtype=float)


def _frontier(points: Iterable[OperatingPoint], known: Frontier, need: PointsNeed) -> Frontier:
    """Return the frontier of points for these lengths."""
    return known.with_points(points).with_costs(known.costs, need.lengths)


def _full(costs: StepCosts, frontier: Frontier, need: PointsNeed) -> Frontier:
    """Return the frontier of the points with full batches."""
    limits = batch_limits(need.batch_limit)
    # A batch limit above what tokens and cache allow would only queue prompts in the engine.
    ending, first = np.unique(ending_of(costs, need.lengths, limits), return_index=True)
    limits = limits[first]
    table = load_table(costs, need.lengths, ending)
    kept = table.step_s <= 0.95 * need.limits.tpot_s
    if not kept.any():
        kept = np.ones_like(kept)
    found = np.nonzero(_efficient(table, kept))
    points = _points(costs, table, need, found, limits[found[1]])
    return _frontier(points, frontier, need)


def _efficient(table: LoadTable, kept: Mask) -> Mask:
    """Return which of the kept points no other beats in both draw and output."""
    draw_w = np.where(kept, table.draw_w, np.inf).ravel()
    rate_rps = np.where(kept, table.rate_rps, 0.0).ravel()
    order = np.lexsort((-rate_rps, draw_w))
    best = np.maximum.accumulate(rate_rps[order])
    found = np.zeros(draw_w.shape, dtype=bool)
    found[order[np.concatenate(([True], best[1:] > best[:-1]))]] = True
    efficient: Mask = found.reshape(kept.shape) & kept
    return efficient


def _sustained(
    costs: StepCosts, frontier: Frontier, need: PointsNeed
) -> dict[OperatingPoint, OperatingPoint]:
    """Return the largest load of each clock that keeps the SLO, and the same with a full batch."""
    ending = most_ending(costs, need.lengths) * np.geomspace(LEAST_LOAD, 1.0, LOADS)
    table = load_table(costs, need.lengths, ending, frontier.idle_w, need.replicas)
    places = np.ceil(table.running + BATCH_DEVIATIONS * np.sqrt(table.running))
    limits = need.limits
    kept = (table.ttft_s <= limits.ttft_s) & (table.tpot_s <= limits.tpot_s)
    kept &= places <= need.batch_limit
    clocks = np.flatnonzero(kept.any(axis=1))
    loads = kept.shape[1] - 1 - np.argmax(kept[clocks, ::-1], axis=1)
    batches = places[loads]
    under_load = _points(costs, table, need, (clocks, loads), batches)
    full = load_table(costs, need.lengths, ending_of(costs, need.lengths, batches))
    with_full_batch = _points(costs, full, need, (clocks, np.arange(len(clocks))), batches)
    return dict(zip(under_load, with_full_batch, strict=True))


def _points(
    costs: StepCosts,
    table: LoadTable,
    need: PointsNeed,
    at: tuple[NDArray[np.intp], ...],
    batches: Floats,
) -> list[OperatingPoint]:
    """Return the points of a table at some clocks and loads."""
    clocks_mhz = [costs.clocks[clock].clock_mhz for clock in at[0].tolist()]
    output_tps = table.rate_rps[at] * need.lengths.output_tokens
    rows = zip(
        clocks_mhz,
        batches.astype(int).tolist(),
        output_tps.tolist(),
        table.draw_w[at].tolist(),
        table.step_s[at].tolist(),
        strict=True,
    )
    return [OperatingPoint(*row) for row in rows]
