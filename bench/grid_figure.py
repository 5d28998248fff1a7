"""The figure of `grid_targets.py`: the event of three hours, and some minutes of regulation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grid_fleet import Run

GREY, BLUE, ORANGE = "#8a94a6", "#1f6fb4", "#c2571a"
MINUTE_S, SHOWN_S = 60.0, (300.0, 1500.0)
KILO = 1e-3


def draw(runs: Mapping[str, Run]) -> Figure:
    """Return the figure of the runs by the name of their test."""
    figure = Figure(figsize=(10.5, 3.4 * len(runs)), layout="constrained")
    rows = figure.subplots(len(runs), 1, squeeze=False)[:, 0]
    for axes, (name, run) in zip(rows, runs.items(), strict=True):
        _event(axes, run) if name == "phoenix" else _regulation(axes, run)
        axes.set_ylabel("site, kW")
        axes.legend(loc="lower right", frameon=False, ncols=3)
    figure.suptitle("What the grid asks, and what the fleet draws: simulated, energy modelled")
    return figure


def _event(axes: Axes, run: Run) -> None:
    """Draw minutes of the event."""
    at_s = np.arange(MINUTE_S, run.end_s[-1], MINUTE_S)
    grid = [tick.grid for tick in run.ticks]
    asked = np.array([np.nan if g is None or g.target_w is None else g.target_w for g in grid])
    baseline_w = next(g.baseline_w for g in grid if g is not None and g.baseline_w is not None)
    axes.axhline(KILO * baseline_w, color=GREY, linewidth=1, linestyle=":", label="baseline")
    axes.plot(run.end_s / MINUTE_S, KILO * asked, color=ORANGE, linewidth=1.5, label="asked")
    means = [run.draw_w[(run.end_s > at - MINUTE_S) & (run.end_s <= at)].mean() for at in at_s]
    axes.plot(
        at_s / MINUTE_S, KILO * np.array(means), color=BLUE, linewidth=1, label="drawn, 1 min"
    )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes")
    axes.set_title("25 % less for three hours, after a ramp of 15 minutes", fontsize=10)


def _regulation(axes: Axes, run: Run) -> None:
    """Draw the minutes of a regulation signal, window by window."""
    shown = (run.end_s > SHOWN_S[0]) & (run.end_s <= SHOWN_S[1])
    budget = np.array([tick.budget_w for tick in run.ticks])
    axes.step(run.end_s[shown], KILO * np.where(budget < 1e8, budget, np.nan)[shown],
              where="pre", color=ORANGE, linewidth=1.2, label="asked")  # fmt: skip
    axes.plot(run.end_s[shown], KILO * run.draw_w[shown], color=BLUE, linewidth=0.8, label="drawn")
    axes.set_xlabel("s")
    axes.set_title("a synthetic regulation signal, a new value every 2 s", fontsize=10)
