"""The figure of `model_choice.py`: a windy day with variants, and what each fleet served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from policy_table import ALMOST
from steppe.report.records import TickRecord

MOST_POINTS = 400
LARGE, SMALL, WITHOUT, BUDGET = "#2a78b8", "#e08a1e", "#b6c0c9", "#1f2933"
COLOURS = (LARGE, SMALL)


def series(ticks: Sequence[TickRecord]) -> dict[str, Any]:
    """Return what the figure shows of a run, thinned.

    Args:
        ticks: Its ticks, with pools and variants.
    """
    step = -(-len(ticks) // MOST_POINTS)
    kept = ticks[::step]
    names = [pool.name for pool in kept[0].pools]
    shares = {
        name: [sum(v.get(name, 0.0) for v in t.variants.values()) for t in kept] for name in names
    }
    return {
        "t_s": [tick.t_s for tick in kept],
        "budget_w": [tick.budget_w for tick in kept],
        "draw_w": {n: [p.draw_w for t in kept for p in t.pools if p.name == n] for n in names},
        "share": shares,
    }


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the windy day as a PNG."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from steppe.report.figures import STYLE

    found = next(row["series"] for row in rows if row["series"])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 6.4), dpi=130, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        grid = figure.add_gridspec(
            2, 2, width_ratios=(1.5, 1), hspace=0.35, wspace=0.55, left=0.07, right=0.97, top=0.9
        )
        _power(figure.add_subplot(grid[0, 0]), found)
        _shares(figure.add_subplot(grid[1, 0]), found)
        _bars(figure.add_subplot(grid[:, 1]), rows)
        canvas.print_png(path)


def _power(axes: Any, found: dict[str, Any]) -> None:
    hours = [t_s / found["t_s"][-1] * 24 for t_s in found["t_s"]]
    draws_kw = [[watts / 1000 for watts in of] for of in found["draw_w"].values()]
    axes.stackplot(hours, *draws_kw, colors=COLOURS, labels=list(found["draw_w"]), linewidth=0)
    axes.plot(hours, [w / 1000 for w in found["budget_w"]], color=BUDGET, label="power budget")
    axes.set_title("Draw of each model (kW)", loc="left", fontweight="bold", fontsize=10)
    axes.set_xlim(0, 24)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, fontsize=8)


def _shares(axes: Any, found: dict[str, Any]) -> None:
    hours = [t_s / found["t_s"][-1] * 24 for t_s in found["t_s"]]
    axes.stackplot(hours, *found["share"].values(), colors=COLOURS, linewidth=0)
    axes.set_title("Share of each variant in the plan", loc="left", fontweight="bold", fontsize=10)
    axes.set_xlim(0, 24)
    axes.set_ylim(0, 1)
    axes.set_xlabel("hour of the day")


def _bars(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Draw the good requests of each fleet; grey where it does not keep to the budget."""
    day = next(row["day"] for row in rows if row["series"])
    mine = sorted((r for r in rows if r["day"] == day), key=lambda row: row["good"])
    names = [row["fleet"].replace("_", " ") for row in mine]
    bottom = [0.0] * len(mine)
    for name, colour in zip(rows[0]["models"], COLOURS, strict=False):
        good = [row["models"].get(name, {"good": 0})["good"] / 1000 for row in mine]
        colours = [colour if row["over_budget_share"] <= ALMOST else WITHOUT for row in mine]
        axes.barh(names, good, left=bottom, color=colours, height=0.7)
        bottom = [a + b for a, b in zip(bottom, good, strict=True)]
    axes.tick_params(axis="y", labelsize=6.5)
    axes.grid(axis="x")
    axes.set_xlabel(
        "requests within the SLO, thousands; modelled\ngrey: draws more than the budget"
    )
    axes.set_title(f"A {day} day", loc="left", fontweight="bold", fontsize=10)
