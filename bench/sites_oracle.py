"""What perfect foresight could do with the same load, and shares from a forecast of the day before.

A linear program for each minute: all load is a fluid that may run anywhere, every prefix is cached,
and moves cost nothing. Without a store of energy minutes do not depend on one another, so the
program of the whole time falls apart into these. It takes the least energy from the grid: no policy
that serves the same requests in these minutes under the same replica control can take less.

    min sum_i grid_i    sum_i load_i = all load    0 <= load_i <= capacity
                        draw_i = base + sum of watts of used edges,   grid_i >= draw_i - renewable_i
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sites_replica import SiteTable
from sites_world import GOES_ON, PREFIX, World

Floats = NDArray[np.float64]
ORACLE_S = 60.0
THRIFT = 1e-6
"""Cost of a joule of surplus over one from the grid."""


def edges_of(table: SiteTable) -> Floats:
    """Return the parts of a site's output: (parts, 2), requests per second and watts."""
    slopes = np.diff(table.draw_w) / np.diff(table.load_rps)
    bends = np.flatnonzero(np.diff(slopes) > 1e-6 * slopes.max()) + 1
    kinks = [0, *bends.tolist(), len(table.load_rps) - 1]
    found: Floats = np.stack([np.diff(table.load_rps[kinks]), np.diff(table.draw_w[kinks])], 1)
    return found


def least_grid(
    table: SiteTable, renewable_w: Floats, load_rps: float, edges: Floats
) -> tuple[Floats, Floats]:
    """Return the load of each site, requests per second, and its draw, W, for one step.

    The program has one row that joins the sites, and what each site takes from the grid is convex:
    filling the parts by rising watts from the grid per request solves it (a test solves it with
    HiGHS, too). Of parts that cost the same the thrifty one is first.

    Args:
        table: What each site does.
        renewable_w: Wind and sun of each site, W.
        load_rps: All load, mean requests per second.
        edges: What `edges_of` returns.
    """
    sites, parts = len(renewable_w), len(edges)
    before_w = table.base_w + np.concatenate([[0.0], np.cumsum(edges[:-1, 1])])
    green = np.clip((renewable_w[:, None] - before_w) / edges[:, 1], 0.0, 1.0)
    shares = np.stack([green, 1.0 - green])
    slope_w = np.broadcast_to(edges[:, 1] / edges[:, 0], (sites, parts))
    cost = np.stack([slope_w * THRIFT, slope_w])
    size_rps = shares * edges[:, 0]
    order = np.argsort(cost, axis=None, kind="stable")
    sizes = size_rps.ravel()[order]
    filled = np.clip(load_rps - (np.cumsum(sizes) - sizes), 0.0, sizes)
    used = np.empty_like(filled)
    used[order] = filled
    used = used.reshape(size_rps.shape).sum(axis=0)
    return used.sum(axis=1), table.base_w + (used * slope_w).sum(axis=1)


def oracle(world: World, table: SiteTable) -> dict[str, float]:
    """Return the least energy from the grid, with all else that follows from it."""
    width, step_s = max(1, round(ORACLE_S / world.case.step_s)), world.case.step_s
    work = 1 - table.prompt_share * PREFIX * GOES_ON
    blocks = range(0, world.case.steps, width)
    drawn_j = grid_j = 0.0
    edges = edges_of(table)
    for first in blocks:
        part = slice(first, first + width)
        seconds = step_s * len(world.requests[part])
        load_rps = work * float(world.requests[part].sum()) / seconds
        renewable_w = world.renewable_w[part].mean(axis=0)
        _, draw_w = least_grid(table, renewable_w, load_rps, edges)
        drawn_j += seconds * float(draw_w.sum())
        grid_j += seconds * float(np.maximum(0.0, draw_w - renewable_w).sum())
    kwh = 3.6e6
    return {
        "green_share": 1 - grid_j / drawn_j,
        "energy_kwh": drawn_j / kwh,
        "grid_kwh": grid_j / kwh,
    }


def day_ahead(world: World, table: SiteTable) -> Floats:
    """Return the share of each home's load that each site gets in each hour, (hours, home, site).

    From the forecast of the day before and the usual load of the hour.
    """
    work = 1 - table.prompt_share * PREFIX * GOES_ON
    edges, hours = edges_of(table), int(np.ceil(world.case.days * 24))
    found = []
    for hour in range(hours):
        come = work * world.expected[hour % 24]
        renewable_w = world.forecast_w[4 * hour : 4 * hour + 4].mean(axis=0)
        runs, _ = least_grid(table, renewable_w, float(come.sum()), edges)
        found.append(shares_of(come, runs))
    return np.array(found)


def shares_of(come: Floats, runs: Sequence[float] | Floats) -> Floats:
    """Return which share of each home's load goes where, (home, site): as much as may be stays."""
    stay = np.minimum(come, runs)
    room = np.maximum(0.0, np.asarray(runs) - stay)
    away = (come - stay) / come
    total = room.sum()
    shares = np.outer(away, room / total if total > 0 else np.zeros_like(room))
    shares[np.diag_indices(len(come))] += 1 - shares.sum(axis=1)
    result: Floats = shares
    return result
