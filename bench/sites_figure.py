"""The figure of `sites.py`: how load follows the wind at three sites, and what each policy gains.

    python bench/sites_figure.py --data ../shared/data --series DIR --results FILE ... --out FILE

`--series` is what `sites.py` wrote for a world of three sites; results are its documents.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import sites
from sites_replica import SiteTable
from sites_table import LOCAL, ORACLE, OURS
from sites_world import DAY_S, World

GREY, BLUE, GREEN, ORANGE = "#8a94a6", "#1f6fb4", "#7fb77e", "#c2571a"
KILO, SMOOTH_S = 1e-3, 900.0
Row = Mapping[str, Any]


def draw(world: World, table: SiteTable, loads: Mapping[str, Any], rows: Sequence[Row]) -> Figure:
    """Return the figure.

    Args:
        world: A world of a few sites.
        table: What each site does.
        loads: Load of its sites by policy, requests per second.
        rows: Rows of all worlds.
    """
    count = world.case.sites
    figure = Figure(figsize=(11, 2.0 * count + 3.4), layout="constrained")
    grid = figure.add_gridspec(count + 1, 1, height_ratios=[1.0] * count + [1.7])
    for site, name in enumerate(world.names):
        _site(figure.add_subplot(grid[site]), world, table, loads, (site, name))
    _gains(figure.add_subplot(grid[count]), rows)
    figure.suptitle("Requests follow wind and sun: simulated, energy modelled, wind measured")
    return figure


def _site(
    axes: Axes, world: World, table: SiteTable, loads: Mapping[str, Any], site: tuple[int, str]
) -> None:
    """Draw wind and sun of a site, and its draw with local only and with Steppe."""
    number, name = site
    width = max(1, round(SMOOTH_S / world.case.step_s))
    days = np.arange(world.case.steps // width) * width * world.case.step_s / DAY_S

    def means(values: Any) -> Any:
        return values[: len(days) * width].reshape(len(days), width).mean(axis=1)

    own = KILO * means(world.renewable_w[:, number])
    axes.fill_between(days, own, color=GREEN, alpha=0.5, linewidth=0, label="own wind and sun")
    for policy, colour in ((LOCAL, GREY), (OURS, BLUE)):
        draw_w = np.interp(loads[policy][:, number], table.load_rps, table.draw_w)
        axes.plot(days, KILO * means(draw_w), color=colour, linewidth=1.1, label=f"draw, {policy}")
    axes.set_ylim(0.0, 1.15 * KILO * float(table.draw_w[-1]))
    axes.set_xlim(0.0, float(days[-1]))
    axes.set_ylabel(f"{name}, kW")
    if number == 0:
        axes.legend(loc="upper right", frameon=False, ncols=3, fontsize=8)
    if number == world.case.sites - 1:
        axes.set_xlabel("days")


def _gains(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw the share of the oracle's gain of each policy, by the number of sites."""
    counts = sorted({row["sites"] for row in rows})
    policies = [p for p in dict.fromkeys(row["policy"] for row in rows) if p not in (LOCAL, ORACLE)]
    wide = 0.8 / len(counts)
    for place, sites_count in enumerate(counts):
        heights = [_mean(rows, sites_count, policy) for policy in policies]
        at = np.arange(len(policies)) + (place - (len(counts) - 1) / 2) * wide
        colour = (ORANGE, BLUE, GREY)[place % 3]
        axes.bar(at, heights, wide, color=colour, label=f"{sites_count} sites")
    axes.axhline(0.9, color="black", linewidth=0.8, linestyle=":", label="target")
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(policies)), policies, fontsize=8)
    axes.set_ylabel("share of the oracle's gain")
    axes.set_ylim(top=1.15)
    axes.legend(frameon=False, ncols=4, fontsize=8, loc="upper left")


def _mean(rows: Sequence[Row], count: int, policy: str) -> float:
    same = [r["gain_share"] for r in rows if (r["sites"], r["policy"]) == (count, policy)]
    return float(np.mean(same)) if same else float("nan")


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--series", type=Path, required=True)
    parser.add_argument("--results", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    case = sites.case_of(3, sites.parsed(["--data", str(arguments.data)]), 0)
    world, table = sites.world_of(case, arguments.data)
    loads = {name: np.load(arguments.series / f"3-0-{name}.npy") for name in (LOCAL, OURS)}
    found = [row for file in arguments.results for row in json.loads(file.read_text())["results"]]
    rows = [row for row in found if not row["front"] and row["policy"] in sites.MAIN]
    draw(world, table, loads, rows).savefig(arguments.out, dpi=130)


if __name__ == "__main__":
    main()
