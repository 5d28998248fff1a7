"""The figure of a run: power, the three knobs, and what each joule bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe.report.pool_panels import PoolPanel, pool_panels
from steppe.report.quantities import count, quantity, share, source_text, span
from steppe.report.records import TickRecord
from steppe.report.series import RunSeries, series_of
from steppe.report.summary import Summary

Floats = NDArray[np.float64]

INK, MUTED, GRID = "#1f2933", "#66737f", "#e4e8ec"
SUPPLY, BUDGET, DRAW, OVER = "#d3e9dc", "#1f2933", "#2a78b8", "#d1342f"
STALE, BATCH = "#d5d8dc", "#9cc3e4"
ALLOWED, BASELINE = "#8e44ad", "#8b6f9c"
ALLOWED_BAND = 0.02
"""Width of the band above what an event allows, within which the site complies: share of that."""
GIVEN, TAKEN = "#f2d9a0", "#a9d3bb"
TOKENS, DEMAND, PER_JOULE = "#cfe0ef", "#7a8b99", "#b0541a"
REPLICAS = ("#2a78b8", "#e08a1e", "#3d9970", "#a04a9c")
MOST_LINES = len(REPLICAS)
LEFT, RIGHT = 0.07, 0.93
PANEL_INCHES = 1.3
"""Height of each panel that several models add."""
NOTICE_INK, NOTICE_FILL = "#7a4b00", "#ffe9b8"

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#b6c0c9",
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "agg.path.chunksize": 10_000,
}


def run_figure(ticks: Sequence[TickRecord], summary: Summary, path: Path) -> None:
    """Draw a run as a PNG: supply, budget and draw; the knobs; tokens per joule.

    Args:
        ticks: The run's ticks; without any, the figure says so.
        summary: What the run achieved; its energy source and boundary are stated.
        path: The PNG file to write.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        series = series_of(ticks) if ticks else None
        more = [] if series is None else pool_panels(series.pools)
        figure = Figure(figsize=(10, 9.2 + PANEL_INCHES * len(more)), dpi=150, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        panels = _add_panels(figure, len(more))
        if series is not None:
            _draw_panels(panels, series, more)
        else:
            panels[0].text(0.5, 0.5, "no tick was recorded", ha="center")
        _write_heading(figure, summary)
        _write_footer(figure, summary)
        canvas.print_png(path)


def _add_panels(figure: Any, more: int) -> list[Any]:
    """Return the axes from top to bottom: power, `more` others, clock, batch, awake, output."""
    rows = figure.add_gridspec(
        5 + more,
        1,
        height_ratios=(3.2, *[1.15] * more, 1.15, 1.15, 0.75, 2.2),
        hspace=0.42,
        left=LEFT,
        right=RIGHT,
        top=0.868,
        bottom=0.105,
    )
    top = figure.add_subplot(rows[0])
    return [top, *(figure.add_subplot(rows[row], sharex=top) for row in range(1, 5 + more))]


def _draw_panels(panels: Sequence[Any], series: RunSeries, more: Sequence[PoolPanel]) -> None:
    unit, divisor = _time_unit(series.edges_s[-1])
    edges = series.edges_s / divisor
    power, *others, clock, batch, awake, tokens = panels
    for axes, panel in zip(others, more, strict=True):
        _draw_stacked(axes, edges, panel)
    _draw_power(power, edges, series)
    _draw_knob(clock, edges, series.clocks_mhz, "Clock limit (MHz)")
    _draw_knob(batch, edges, series.batch_limits, "Batch limit (sequences)")
    _legend(clock, MOST_LINES)
    _draw_awake(awake, edges, series)
    _draw_tokens(tokens, edges, series)
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
    points = f"; one point: mean of {series.ticks_per_point} ticks, red: the worst of them"
    tokens.set_xlabel(f"time ({unit}){points if series.ticks_per_point > 1 else ''}")
    power.set_xlim(edges[0], edges[-1])


def _time_unit(end_s: float) -> tuple[str, float]:
    """Return the unit that suits a run and its length in seconds."""
    if end_s <= 600:
        return "s", 1.0
    return ("min", 60.0) if end_s <= 3 * 3600 else ("h", 3600.0)


def _draw_power(axes: Any, edges: Floats, series: RunSeries) -> None:
    from matplotlib.ticker import EngFormatter

    budget_w, draw_w = series.budget_w, series.draw_w
    over_w = np.where(series.over_w > 0, budget_w + series.over_w, np.nan)
    axes.stairs(series.supply_w, edges, fill=True, color=SUPPLY, label="supply")
    _draw_stale(axes, edges, series)
    site_w = _draw_grid(axes, edges, series)
    given_w = _draw_battery(axes, edges, series)
    if np.any(series.batch_w):
        others_w = draw_w - series.batch_w
        axes.stairs(draw_w, edges, baseline=others_w, fill=True, color=BATCH, label="batch")
    axes.stairs(budget_w, edges, baseline=None, color=BUDGET, linewidth=1.1, label="power budget")
    axes.stairs(draw_w, edges, baseline=None, color=DRAW, linewidth=1.6, label="draw")
    if np.any(series.over_w > 0):
        axes.stairs(over_w, edges, baseline=budget_w, fill=True, color=OVER, label="over budget")
    axes.yaxis.set_major_formatter(EngFormatter(unit="W", sep=" "))
    largest_w = max(1.0, site_w, *given_w, *(budget_w + series.over_w), *draw_w)
    axes.set_ylim(0, 1.08 * largest_w)
    _title(axes, "Power")
    _legend(axes, 8)


def _draw_grid(axes: Any, edges: Floats, series: RunSeries) -> float:
    """Draw what the grid allowed the site, and shade its events; return the largest of it, W."""
    grid = series.grid
    if grid is None:
        return 0.0
    lines = [
        (grid.baseline_w, BASELINE, "--", "baseline"),
        (grid.limit_w, ALLOWED, "-", "grid limit"),
    ]
    if not np.allclose(grid.site_w, series.draw_w, rtol=0.005, atol=0.5):
        lines.append((grid.site_w, INK, ":", "site draw"))
    in_event = ~np.isnan(grid.target_w)
    if in_event.any():
        up, high = axes.get_xaxis_transform(), np.where(in_event, 1.0, np.nan)
        axes.stairs(
            high, edges, fill=True, color=ALLOWED, alpha=0.13, transform=up, label="grid event"
        )
        band_w = grid.target_w * (1 + ALLOWED_BAND)
        axes.stairs(
            band_w, edges, baseline=grid.target_w, fill=True, color=ALLOWED, alpha=0.35, zorder=2
        )
    known = [line for line in lines if not np.isnan(line[0]).all()]
    for values, colour, style, label in known:
        look = {"color": colour, "linestyle": style, "linewidth": 1.3, "zorder": 1.5}
        axes.stairs(values, edges, baseline=None, label=label, **look)
    return max((float(np.nanmax(values)) for values, *_ in known), default=0.0)


def _draw_stale(axes: Any, edges: Floats, series: RunSeries) -> None:
    """Shade the time in which a supply was stale and the fallback applied."""
    stale = series.stale > 0
    if np.any(stale):
        high = np.where(stale, 1.0, np.nan)
        up = axes.get_xaxis_transform()
        axes.stairs(
            high, edges, fill=True, color=STALE, alpha=0.7, transform=up, label="supply stale"
        )


def _draw_battery(axes: Any, edges: Floats, series: RunSeries) -> Floats:
    """Draw what a battery gave above the supply and took from it; return the sum, W."""
    supply_w = series.supply_w
    given_w: Floats = supply_w + np.maximum(0.0, series.battery_w)
    left_w = supply_w + np.minimum(0.0, series.battery_w)
    if np.any(series.battery_w):
        axes.stairs(given_w, edges, baseline=supply_w, fill=True, color=GIVEN, label="battery gave")
        axes.stairs(supply_w, edges, baseline=left_w, fill=True, color=TAKEN, label="battery took")
    return given_w


def _draw_knob(axes: Any, edges: Floats, values: dict[str, Floats], title: str) -> None:
    """Draw one knob of every awake replica, the first widest; of many, range and median."""
    if len(values) <= MOST_LINES:
        widths = np.linspace(1.3 + 0.9 * (len(values) - 1), 1.3, len(values))
        for name, colour, width in zip(values, REPLICAS, widths, strict=False):
            axes.stairs(
                values[name], edges, baseline=None, color=colour, linewidth=width, label=name
            )
    else:
        levels = np.array(list(values.values()))
        known = ~np.isnan(levels).all(axis=0)
        low, middle, high = np.full((3, len(known)), np.nan)
        if known.any():  # nanquantile knows no quantile of nothing
            low[known], middle[known], high[known] = np.nanquantile(
                levels[:, known], (0, 0.5, 1), axis=0
            )
        axes.stairs(
            high, edges, baseline=low, fill=True, color=TOKENS, label="range of the replicas"
        )
        axes.stairs(middle, edges, baseline=None, color=DRAW, linewidth=1.4, label="median")
    axes.set_ylim(bottom=0)
    axes.margins(y=0.18)
    axes.yaxis.set_major_locator(_few_whole_numbers())
    _title(axes, title)


def _draw_stacked(axes: Any, edges: Floats, panel: PoolPanel) -> None:
    """Draw the values of several models on top of one another."""
    _stack(axes, edges, panel.values)
    axes.set_ylim(0, panel.most)
    axes.yaxis.set_major_formatter(panel.formatter)
    axes.yaxis.set_major_locator(_few_numbers())
    _title(axes, panel.title)
    _legend(axes, 6)


def _stack(axes: Any, edges: Floats, values: Mapping[str, Floats]) -> None:
    base: Floats = np.zeros(len(edges) - 1)
    for number, (name, each) in enumerate(values.items()):
        colour = REPLICAS[number % len(REPLICAS)]
        axes.stairs(base + each, edges, baseline=base, fill=True, color=colour, label=name)
        base = base + each


def _draw_awake(axes: Any, edges: Floats, series: RunSeries) -> None:
    axes.stairs(series.replicas, edges, fill=True, color="#eef1f4")
    if series.pools.awake:
        _stack(axes, edges, series.pools.awake)
    else:
        axes.stairs(series.awake, edges, fill=True, color="#8fb3cf")
        axes.stairs(series.awake, edges, baseline=None, color=DRAW, linewidth=1.2)
    axes.set_ylim(0, 1.15 * max(1.0, series.replicas.max()))
    axes.yaxis.set_major_locator(_few_whole_numbers())
    _title(axes, "Awake replicas")


def _draw_tokens(axes: Any, edges: Floats, series: RunSeries) -> None:
    per_joule = axes.twinx()
    middle = (edges[:-1] + edges[1:]) / 2
    axes.stairs(series.output_tps, edges, fill=True, color=TOKENS, label="output")
    axes.stairs(
        series.demand_tps, edges, baseline=None, color=DEMAND, linewidth=0.9, label="demand"
    )
    per_joule.plot(middle, series.tokens_per_joule, color=PER_JOULE, linewidth=1.8)
    label = f"tokens per joule, mean of {series.smooth_s:.0f} s (right)"
    axes.plot([], [], color=PER_JOULE, linewidth=1.8, label=label)
    best = np.nanmax(series.tokens_per_joule, initial=0.0)
    per_joule.set_ylim(0, 1.25 * best if best > 0 else 1.0)
    per_joule.tick_params(axis="y", colors=PER_JOULE)
    per_joule.grid(visible=False)
    axes.set_ylim(0, 1.12 * max(series.output_tps.max(), series.demand_tps.max(), 1.0))
    _title(axes, "Output (tokens/s) and tokens per joule")
    _legend(axes, 3)


def _few_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=3, min_n_ticks=2)


def _few_whole_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=3, integer=True, min_n_ticks=2)


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10, fontweight="bold", color=INK, pad=5)


def _legend(axes: Any, columns: int) -> None:
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.008, 0.985),
        ncols=columns,
        borderaxespad=0.1,
        columnspacing=1.4,
        handlelength=1.4,
    )


def _write_heading(figure: Any, summary: Summary) -> None:
    per_joule = summary["output_tokens_per_joule"]
    headline = "no energy was metered" if per_joule is None else f"{per_joule:.3g} tokens per joule"
    tokens, energy = count(summary["output_tokens"]), quantity(summary["energy_j"], "J")
    tracking = summary["tracking"]
    figure.text(LEFT, 0.957, headline, fontsize=17, fontweight="bold", va="center")
    details = (
        f"{tokens} output tokens on {energy} in {span(summary['duration_s'])}    "
        f"budget error {share(tracking['relative_mae'])}    "
        f"over budget {quantity(tracking['over_budget_s'], 's')}    "
        f"SLO attainment {share(summary['slo_attainment'])}"
    )
    figure.text(LEFT, 0.921, details, fontsize=10, color=MUTED, va="center")
    if summary["energy_source"] in {"emulated", "estimated", "modelled"}:
        figure.text(
            RIGHT - 0.006,
            0.957,
            f"energy {source_text(summary['energy_source'])}",
            fontsize=10,
            fontweight="bold",
            color=NOTICE_INK,
            ha="right",
            va="center",
            bbox={"boxstyle": "round,pad=0.45", "facecolor": NOTICE_FILL, "edgecolor": "none"},
        )


def _write_footer(figure: Any, summary: Summary) -> None:
    tracking = summary["tracking"]
    versions = "  ".join(f"{name} {release}" for name, release in summary["versions"].items())
    lines = (
        f"energy source: {source_text(summary['energy_source'])}   boundary: {summary['boundary']}"
        f"   meter error: ±{quantity(summary['energy_error_j'], 'J')}"
        f"   over budget: {quantity(tracking['over_budget_j'], 'J')} beyond the meter's delay of"
        f" {quantity(tracking['meter_delay_s'], 's')}",
        versions,
    )
    figure.text(
        LEFT, 0.022, "\n".join(lines), fontsize=8, color=MUTED, va="bottom", linespacing=1.6
    )
