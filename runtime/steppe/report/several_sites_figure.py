"""The figure of one simulated run of several sites: does the load move with the wind?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe.report.figures import DRAW, INK, MUTED, REPLICAS, STYLE, SUPPLY
from steppe.report.sites_energy import SiteSeries

Floats = NDArray[np.float64]
GREEN = "#3d9970"
SITE_INCHES, HEAD_INCHES, LOAD_INCHES = 1.55, 1.2, 2.6
TICK_H = 6.0
SMOOTH = 3
"""Points over which the series are averaged."""


@dataclass(frozen=True, slots=True)
class SitesShown:
    """What the figure shows.

    Attributes:
        title: Its heading.
        note: A line under it.
        begin_hour: Hour of the day at its begin, h.
        hours: How many hours of the day it covers.
        sites: The series of each site, by its name.
    """

    title: str
    note: str
    begin_hour: float
    hours: float
    sites: Mapping[str, SiteSeries]


def several_sites_figure(shown: SitesShown, path: Path) -> None:
    """Draw several sites as a PNG: own power and draw of each, and where tokens come from."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(shown.sites)
    height = HEAD_INCHES + SITE_INCHES * count + LOAD_INCHES
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, height), dpi=150, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        ratios = [*[SITE_INCHES] * count, LOAD_INCHES]
        panels = figure.subplots(count + 1, 1, sharex=True, height_ratios=ratios)
        figure.subplots_adjust(
            left=0.09, right=0.97, top=1 - HEAD_INCHES / height, bottom=0.55 / height, hspace=0.38
        )
        figure.text(0.09, 1 - 0.36 / height, shown.title, fontsize=12, color=INK, weight="bold")
        figure.text(0.09, 1 - 0.62 / height, shown.note, fontsize=9, color=MUTED)
        first = next(iter(shown.sites.values()))
        points = len(first.own_w)
        hours = shown.begin_hour + shown.hours * np.arange(points + 1) / points
        most_w = max(max(s.own_w + s.draw_w) for s in shown.sites.values())
        for axes, (name, series) in zip(panels, shown.sites.items(), strict=False):
            _draw_site(axes, hours, name, series, most_w)
        _draw_load(panels[-1], hours, shown.sites)
        panels[0].legend(loc="upper right", ncols=3, bbox_to_anchor=(1.0, 1.32))
        panels[-1].set_xlabel("hour of the day")
        panels[-1].set_xlim(hours[0], hours[-1])
        if shown.hours >= 2 * TICK_H:
            panels[-1].set_xticks(np.arange(hours[0], hours[-1] + 1e-6, TICK_H))
        canvas.print_png(path)


def _draw_site(axes: Any, hours: Floats, name: str, series: SiteSeries, most_w: float) -> None:
    from matplotlib.ticker import EngFormatter

    own_w, draw_w = _smooth(series.own_w), _smooth(series.draw_w)
    used_w = np.minimum(own_w, draw_w)
    axes.stairs(own_w, hours, fill=True, color=SUPPLY, label="own wind and sun")
    axes.stairs(used_w, hours, fill=True, color=GREEN, alpha=0.45, label="of it used")
    axes.stairs(draw_w, hours, baseline=None, color=DRAW, linewidth=1.5, label="draw")
    axes.yaxis.set_major_formatter(EngFormatter(unit="W", sep=" "))
    axes.set_ylim(0, 1.05 * most_w)
    axes.set_title(name, loc="left", fontsize=9.5, color=INK, weight="bold")


def _draw_load(axes: Any, hours: Floats, sites: Mapping[str, SiteSeries]) -> None:
    """Draw the output tokens per second of all sites above each other."""
    from matplotlib.ticker import EngFormatter

    below = np.zeros(len(hours) - 1)
    for number, (name, series) in enumerate(sites.items()):
        above = below + _smooth(series.output_tps)
        color = REPLICAS[number % len(REPLICAS)]
        axes.stairs(above, hours, baseline=below, fill=True, color=color, alpha=0.75, label=name)
        below = above
    axes.yaxis.set_major_formatter(EngFormatter())
    axes.set_ylim(bottom=0)
    axes.set_title("Which site serves: output tokens/s", loc="left", fontsize=9.5, color=INK)
    axes.legend(loc="upper right", ncols=6, bbox_to_anchor=(1.0, 1.19))


def _smooth(values: list[float]) -> Floats:
    """Return the means of neighbouring points; the ends have fewer neighbours."""
    ones = np.ones(SMOOTH)
    sums = np.convolve(np.array(values), ones, mode="same")
    means: Floats = sums / np.convolve(np.ones(len(values)), ones, mode="same")
    return means
