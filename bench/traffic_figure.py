"""The figure of `traffic.py`: one row for each traffic, a few columns for each question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from traffic_table import AMPLE, LOST, SAVED, Cell, cells_of

BLUE, WHITE, ORANGE, GREY, INK = "#4f97cf", "#f7f8fa", "#d97a3d", "#e3e7ee", "#1c2430"
COLOURS = LinearSegmentedColormap.from_list("short to met", [ORANGE, WHITE, BLUE], bad=GREY)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the figure.

    Attributes:
        heading: What it shows.
        happening: The happening of its cells.
        value: Its value in a cell; None without one.
        shape: How the value is written.
        target: Where it is white; without one it has no colour.
        span: How far from the target it has its full colour; below 0 if less is better.
    """

    heading: str
    happening: str
    value: Callable[[Cell], float | None]
    shape: str
    target: float | None = None
    span: float = 0.5


def draw(document: dict[str, Any]) -> Figure:
    """Return the figure of a result."""
    cells = {(cell.traffic, cell.happening): cell for cell in cells_of(document["results"])}
    traffics = list(dict.fromkeys(traffic for traffic, _ in cells))
    happenings = list(dict.fromkeys(happening for _, happening in cells))
    panels = {title: columns for title, columns in _panels(happenings).items() if columns}
    figure = Figure(figsize=(13, 2.3 + 0.42 * len(traffics)), layout="constrained")
    widths = [len(columns) for columns in panels.values()]
    drawn = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axes, (title, columns) in zip(drawn, panels.items(), strict=True):
        _heat(axes, columns, traffics, cells)
        axes.set_title(title, fontsize=10, pad=24, color=INK)
    drawn[0].set_yticks(range(len(traffics)), [name.replace("_", " ") for name in traffics])
    fleet, duration_s = document["fleets"][0], document["arguments"]["duration_s"]
    figure.suptitle(
        f"Every traffic on points swept for conversation, each run {duration_s:g} s: simulated, "
        f"energy modelled\n{fleet['simulated']}",
        fontsize=11,
    )
    figure.supxlabel("blue: better than the target; white: at it; orange: short of it", fontsize=10)
    return figure


def _panels(happenings: Sequence[str]) -> dict[str, list[Column]]:
    """Return the columns under each title, of the happenings that there are."""
    short = [name for name in happenings if name != AMPLE]
    spare = [] if AMPLE not in happenings else [AMPLE]
    over_full = [Column(f"{n}\n", n, _over_full, "{:.2f}") for n in happenings]
    over_rival = [Column(f"{n}\n(at least 1)", n, _over_rival, "{:.2f}", 1.0) for n in short]
    lost = [
        Column("SLO attainment lost\n(at most 2 points)", n, _lost, "{:.1%}", LOST, -0.3)
        for n in spare
    ]
    saved = [Column("joules saved\n(at least 25 %)", n, _saved, "{:.0%}", SAVED) for n in spare]
    return {
        "ample power,\nagainst full clocks": lost + saved,
        "good requests/s over the best rival\nthat keeps to the budget": over_rival,
        "good requests/s over full clocks,\nwhich ignore the budget (no target)": over_full,
    }


def _heat(
    axes: Axes,
    columns: Sequence[Column],
    traffics: Sequence[str],
    cells: dict[tuple[str, str], Cell],
) -> None:
    scores = np.full((len(traffics), len(columns)), np.nan)
    for at, column in enumerate(columns):
        for row, traffic in enumerate(traffics):
            cell = cells.get((traffic, column.happening))
            value = None if cell is None else column.value(cell)
            if value is not None and column.target is not None:
                scores[row, at] = (value - column.target) / column.span
            text = "none" if value is None else column.shape.format(value)
            axes.text(at, row, text, ha="center", va="center", fontsize=9, color=INK)
    axes.imshow(scores, cmap=COLOURS, vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), [column.heading for column in columns], fontsize=9)
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(traffics) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _over_full(cell: Cell) -> float | None:
    return cell.good_over(cell.full)


def _over_rival(cell: Cell) -> float | None:
    return cell.good_over(cell.best_rival)


def _lost(cell: Cell) -> float | None:
    return cell.lost


def _saved(cell: Cell) -> float | None:
    return cell.saved
