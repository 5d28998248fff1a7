"""The figure of `scoreboard.py`: one row for each policy, one dot for each day."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from policy_table import ALMOST, KEPT, OURS
from scoreboard_table import FIGURES, NOMINAL, best_of_day, over_ours

Row = dict[str, Any]
GREY, BLUE, ORANGE, RED = "#8a94a6", "#1f6fb4", "#e08a1e", "#b3261e"
COLOURS = (
    (BLUE, f"keeps to the budget (at most {KEPT:.1%} of its energy above)"),
    (ORANGE, f"above the budget by up to {ALMOST:.0%} of its energy"),
    (RED, "above the budget by more"),
)
LABELS = {
    "output_tokens": "output tokens",
    "request_goodput": "requests within the SLO each second",
}
LEAST, MOST = 0.0, 1.5
"""The axis; what lies beyond is drawn at its edge as an arrow."""
LANE = 0.28
"""Half the height of a row that dots are spread over."""


def draw(rows: Sequence[Row], title: str) -> Figure:
    """Return the figure of some rows."""
    order = _order(rows)
    figure = Figure(figsize=(13.5, 2.1 + 0.42 * len(order)), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2, sharey=True), FIGURES, strict=True):
        _panel(axes, rows, order, name)
        axes.set_xlabel(f"{LABELS[name]}, over those\nof {OURS} on the same day")
    figure.axes[0].set_yticks(range(len(order)), [name.replace("_", " ") for name in order])
    figure.axes[0].invert_yaxis()
    _above(figure.axes[1], rows, order)
    figure.suptitle(title, fontsize=10.5)
    figure.legend(
        handles=_legend(rows), loc="outside lower center", ncols=3, frameon=False, fontsize=9
    )
    return figure


def _order(rows: Sequence[Row]) -> list[str]:
    """Return the policies: ours, those that keep to the budget by tokens, then the others."""
    best = [row for row in over_ours(rows, FIGURES[0]) if row["clock_curve"] == _curves(rows)[0]]
    names = dict.fromkeys(row["policy"] for row in best)

    def place(name: str) -> tuple[bool, bool, float]:
        mine = [row for row in best if row["policy"] == name]
        kept = sum(row["over_budget_share"] <= KEPT for row in mine)
        return name != OURS, 2 * kept < len(mine), -median(row["ratio"] for row in mine)

    return sorted(names, key=place)


def _curves(rows: Sequence[Row]) -> list[str]:
    """Return the clock curves, the fitted one first."""
    return sorted(dict.fromkeys(row["clock_curve"] for row in rows), key=lambda c: c != NOMINAL)


def _panel(axes: Axes, rows: Sequence[Row], order: Sequence[str], figure: str) -> None:
    first, *others = _curves(rows)
    ratios = over_ours(rows, figure)
    for lane, policy in enumerate(order):
        mine = [row for row in ratios if row["policy"] == policy]
        if policy == OURS:
            axes.axhspan(lane - 0.5, lane + 0.5, color="#e9f1f9", zorder=0)
        days = sorted(
            (row for row in mine if row["clock_curve"] == first), key=lambda row: row["happening"]
        )
        _dots(axes, lane, days)
        medians = [
            median(row["ratio"] for row in mine if row["clock_curve"] == curve)
            for curve in (first, *others)
            if any(row["clock_curve"] == curve for row in mine)
        ]
        _median(axes, lane, medians)
    axes.axvline(1.0, color=BLUE, linewidth=1, linestyle="--", zorder=1)
    axes.set_xlim(LEAST, MOST)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    axes.grid(axis="x", color="#e3e7ee", zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)


def _dots(axes: Axes, lane: int, days: Sequence[Row]) -> None:
    """Draw a dot for each day, spread over the row in a fixed order."""
    for number, row in enumerate(days):
        share = (number + 0.5) / len(days) * 2 - 1
        ratio = min(MOST, row["ratio"])
        is_beyond = row["ratio"] > MOST
        axes.scatter(
            ratio,
            lane + LANE * share,
            s=30 if is_beyond else 22,
            marker=">" if is_beyond else "o",
            facecolor=_colour(row["over_budget_share"]),
            edgecolor="white",
            linewidth=0.5,
            alpha=0.85,
            clip_on=False,
            zorder=3,
        )


def _above(axes: Axes, rows: Sequence[Row], order: Sequence[str]) -> None:
    """Write the energy above the budget of each policy beside its row."""
    place = axes.get_yaxis_transform()
    axes.text(1.03, -0.9, "energy above the budget\nmedian, worst day", transform=place, fontsize=9)
    best = [row for row in best_of_day(rows, FIGURES[0]) if row["clock_curve"] == _curves(rows)[0]]
    for lane, policy in enumerate(order):
        shares = [row["over_budget_share"] for row in best if row["policy"] == policy]
        axes.text(
            1.03,
            lane,
            f"{median(shares):.2%}, {max(shares):.2%}",
            transform=place,
            va="center",
            color=_colour(median(shares)),
            fontsize=9,
        )


def _median(axes: Axes, lane: int, medians: Sequence[float]) -> None:
    """Draw the median of the fitted curve, and the range of the medians of all curves."""
    middle, *_ = (min(MOST, value) for value in medians)
    axes.plot([middle, middle], [lane - 0.4, lane + 0.4], color="black", linewidth=2, zorder=4)
    low, high = (min(MOST, end) for end in (min(medians), max(medians)))
    if high > low:
        axes.plot([low, high], [lane, lane], color="black", linewidth=1.2, zorder=4)


def _colour(over_share: float) -> str:
    return BLUE if over_share <= KEPT else ORANGE if over_share <= ALMOST else RED


def _legend(rows: Sequence[Row]) -> list[Line2D]:
    dots = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=label)
        for colour, label in COLOURS
    ]
    several = len(_curves(rows)) > 1
    label = "median day; range: clock curve ± 1 standard error" if several else "median day"
    beyond = f"more than {MOST:g}×"
    return [
        *dots,
        Line2D([], [], marker="|", linestyle="", color="black", markersize=12, label=label),
        Line2D([], [], marker=">", linestyle="", color=GREY, label=beyond),
    ]
