"""The figure of the days of a demo: the same day under several ways to choose a site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe.report.figures import (
    DRAW,
    INK,
    NOTICE_FILL,
    NOTICE_INK,
    STYLE,
    SUPPLY,
)
from steppe.report.quantities import source_text

Floats = NDArray[np.float64]
HOURS = 24.0
HOMES = ("#7b5ea7", "#e08a1e", "#4f6d8f", "#b0413e")
"""Colours of the sites at which requests were asked."""
_LEFT, _RIGHT = 0.075, 0.975


@dataclass(frozen=True, slots=True)
class SiteDay:
    """A site over a day, in equal parts of it.

    Attributes:
        site: Its name.
        own_w: Own wind and sun, W.
        draw_w: Its draw, W; not a number where it is not known.
        served_tps: Output tokens/s that it served, by the site at which they were asked.
    """

    site: str
    own_w: Floats
    draw_w: Floats
    served_tps: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class DayShown:
    """All sites over a day, under one way to choose the site of a request.

    Attributes:
        title: How the site was chosen.
        outcome: What came of it, in one line.
        sites: The sites.
    """

    title: str
    outcome: str
    sites: Sequence[SiteDay]


def site_days_figure(
    days: Sequence[DayShown], heading: str, energy_source: str, path: Path
) -> None:
    """Draw days of the same weather side by side as a PNG; for each site its power and its load.

    Args:
        days: The days, with the same sites in the same order.
        heading: The heading.
        energy_source: Where the joules come from; it is stated.
        path: The PNG file to write.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        count = len(days[0].sites)
        figure = Figure(figsize=(11, 1.6 + 2.5 * count), dpi=120, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        panels = _add_panels(figure, count, len(days))
        _set_limits(panels, days)
        colours = {site.site: HOMES[at % len(HOMES)] for at, site in enumerate(days[0].sites)}
        for column, day in enumerate(days):
            _draw_day(list(panels[:, column]), day, colours)
            _write_title(figure, panels[0, column], day)
        for panel in panels[-1]:
            panel.set_xlabel("hour of the day")
        _legend(figure, panels[:2, 0])
        _write_heading(figure, heading, energy_source)
        canvas.print_png(path)


def _add_panels(figure: Any, sites: int, days: int) -> Any:
    """Return the axes: for each site power and load in a row each, for each day a column."""
    grid = figure.add_gridspec(
        3 * sites - 1,
        days,
        height_ratios=[1.25, 1.0, 0.32] * (sites - 1) + [1.25, 1.0],
        left=_LEFT,
        right=_RIGHT,
        top=1 - 1.12 / figure.get_figheight(),
        bottom=0.85 / figure.get_figheight(),
        hspace=0.16,
        wspace=0.07,
    )
    panels = np.empty((2 * sites, days), dtype=object)
    for row in range(2 * sites):
        for column in range(days):
            panels[row, column] = figure.add_subplot(
                grid[row + row // 2, column],
                sharex=panels[0, 0],
                sharey=panels[row, 0] if column else None,
            )
            panels[row, column].tick_params(labelbottom=row == 2 * sites - 1, labelleft=column == 0)
    return panels


def _set_limits(panels: Any, days: Sequence[DayShown]) -> None:
    """Give the panels of a row one scale, on which all days have room."""
    for at, _ in enumerate(days[0].sites):
        sites = [day.sites[at] for day in days]
        most_w = max(float(np.nanmax([site.own_w, site.draw_w], initial=1.0)) for site in sites)
        loads = [sum(site.served_tps.values(), np.zeros(1)) for site in sites]
        most_tps = max(1.0, *(float(load.max()) for load in loads))
        panels[2 * at, 0].set_ylim(0.0, 1.06 * most_w)
        panels[2 * at + 1, 0].set_ylim(0.0, 1.06 * most_tps)


def _draw_day(panels: Sequence[Any], day: DayShown, colours: Mapping[str, str]) -> None:
    for at, site in enumerate(day.sites):
        edges = np.linspace(0.0, HOURS, len(site.own_w) + 1)
        _draw_power(panels[2 * at], edges, site)
        _draw_load(panels[2 * at + 1], edges, site, colours)
        panels[2 * at].set_title(
            site.site.capitalize(), loc="left", fontsize=10, fontweight="bold", color=INK, pad=4
        )
    panels[0].set_xlim(0.0, HOURS)
    panels[0].set_xticks(np.arange(0.0, HOURS + 1, 6.0))


def _draw_power(axes: Any, edges: Floats, site: SiteDay) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.stairs(site.own_w, edges, fill=True, color=SUPPLY, label="own wind and sun")
    axes.stairs(site.draw_w, edges, baseline=None, color=DRAW, linewidth=1.5, label="draw")
    axes.yaxis.set_major_formatter(EngFormatter(unit="W", sep=" "))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, min_n_ticks=2))


def _draw_load(axes: Any, edges: Floats, site: SiteDay, colours: Mapping[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    base: Floats = np.zeros(len(edges) - 1)
    for home, tps in site.served_tps.items():
        axes.stairs(
            base + tps,
            edges,
            baseline=base,
            fill=True,
            color=colours[home],
            label=f"asked at {home}",
        )
        base = base + tps
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, min_n_ticks=2))
    axes.set_ylabel("tokens/s" if axes.get_subplotspec().is_first_col() else "", fontsize=8)


def _legend(figure: Any, panels: Sequence[Any]) -> None:
    """Write one legend of power and load below all panels."""
    found = [axes.get_legend_handles_labels() for axes in panels]
    handles, labels = (
        [each for part in parts for each in part] for parts in zip(*found, strict=True)
    )
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), columnspacing=1.6)


def _write_title(figure: Any, axes: Any, day: DayShown) -> None:
    left = axes.get_position().x0
    at = 1 - 0.68 / figure.get_figheight()
    figure.text(left, at, f"{day.title}: {day.outcome}", fontsize=10.5, color=INK)


def _write_heading(figure: Any, heading: str, energy_source: str) -> None:
    at = 1 - 0.3 / figure.get_figheight()
    figure.text(_LEFT, at, heading, fontsize=14, fontweight="bold", va="center")
    if energy_source in {"emulated", "estimated", "modelled"}:
        figure.text(
            _RIGHT - 0.006,
            at,
            f"energy {source_text(energy_source)}",
            fontsize=9,
            fontweight="bold",
            color=NOTICE_INK,
            ha="right",
            va="center",
            bbox={"boxstyle": "round,pad=0.4", "facecolor": NOTICE_FILL, "edgecolor": "none"},
        )


def mean_in_bins(times: Floats, values: Floats, bins: int) -> Floats:
    """Return the mean of the values of each of equal parts of a day; not a number without one.

    Args:
        times: When each value holds, share of the day; those outside it do not count.
        values: The values.
        bins: Number of parts.
    """
    within = (times >= 0) & (times < 1)
    at = np.clip((times[within] * bins).astype(int), 0, bins - 1)
    sums = np.bincount(at, weights=values[within], minlength=bins)
    counts = np.bincount(at, minlength=bins)
    means: Floats = np.divide(sums, counts, out=np.full(bins, np.nan), where=counts > 0)
    return means


def spread_over_bins(begins: Floats, ends: Floats, amounts: Floats, bins: int) -> Floats:
    """Return how much of some amounts lies in each of equal parts of a day.

    Each amount is spread evenly from its begin to its end; what lies outside the day is left out.

    Args:
        begins: When each begins, share of the day.
        ends: When each ends.
        amounts: The amounts.
        bins: Number of parts.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    found: Floats = np.zeros(bins)
    lasts = np.maximum(ends, begins + 1e-9)
    for begin, end, amount in zip(begins, lasts, amounts, strict=True):
        inside = np.clip(edges, begin, end)
        found += amount * np.diff(inside) / (end - begin)
    return found
