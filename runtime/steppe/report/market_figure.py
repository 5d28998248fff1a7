"""The figure of a backtest of the markets: prices, what was drawn, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe.report.figures import GRID, INK, MUTED, REPLICAS, STYLE, SUPPLY

Floats = NDArray[np.float64]
STEPS_A_DAY = 96
NEGATIVE = "#d1342f"


@dataclass(frozen=True, slots=True)
class MarketDays:
    """What a backtest shows, for each quarter of an hour.

    Attributes:
        title: Its heading.
        currency: Currency of the prices.
        price: Prices, money per MWh.
        renewable_w: Wind and sun, W.
        ways: Draw, W, and money paid so far, of each way by its name.
    """

    title: str
    currency: str
    price: Floats
    renewable_w: Floats
    ways: Mapping[str, tuple[Floats, Floats]]


def market_figure(shown: MarketDays, path: Path) -> None:
    """Draw a backtest as a PNG: prices; draw of each way; what each has paid so far."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 8.4), dpi=150, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        panels = figure.subplots(3, 1, sharex=True, height_ratios=(1.2, 2.2, 2.0))
        figure.subplots_adjust(left=0.09, right=0.97, top=0.91, bottom=0.07, hspace=0.34)
        figure.text(0.09, 0.955, shown.title, fontsize=12, color=INK, weight="bold")
        days = np.arange(len(shown.price) + 1) / STEPS_A_DAY
        _draw_price(panels[0], days, shown.price, shown.currency)
        _draw_power(panels[1], days, shown.renewable_w, shown.ways)
        _draw_paid(panels[2], days, shown.ways, shown.currency)
        panels[2].set_xlabel("time (days)")
        panels[2].set_xlim(0.0, days[-1])
        canvas.print_png(path)


def _draw_price(axes: Any, days: Floats, price: Floats, currency: str) -> None:
    axes.stairs(price, days, color=INK, linewidth=0.9)
    axes.stairs(np.minimum(price, 0.0), days, fill=True, color=NEGATIVE, alpha=0.5)
    axes.axhline(0.0, color=GRID, linewidth=0.8)
    axes.set_title(f"Price ({currency}/MWh); red: below zero", loc="left", fontsize=9, color=MUTED)


def _draw_power(
    axes: Any, days: Floats, renewable_w: Floats, ways: Mapping[str, tuple[Floats, Floats]]
) -> None:
    from matplotlib.ticker import EngFormatter

    axes.stairs(renewable_w, days, fill=True, color=SUPPLY, label="wind and sun")
    for color, (name, (draw_w, _)) in zip(REPLICAS, ways.items(), strict=False):
        axes.stairs(draw_w, days, baseline=None, color=color, linewidth=0.9, label=name)
    axes.yaxis.set_major_formatter(EngFormatter(unit="W", sep=" "))
    axes.set_ylim(bottom=0.0)
    axes.set_title("Draw of the fleet", loc="left", fontsize=9, color=MUTED)
    axes.legend(loc="upper right", ncols=5, bbox_to_anchor=(1.0, 1.16), borderaxespad=0.0)


def _draw_paid(
    axes: Any, days: Floats, ways: Mapping[str, tuple[Floats, Floats]], currency: str
) -> None:
    for color, (name, (_, paid)) in zip(REPLICAS, ways.items(), strict=False):
        axes.plot(days[1:], paid, color=color, linewidth=1.4, label=name)
        axes.annotate(
            f"{paid[-1]:,.4g}",
            (days[-1], paid[-1]),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=color,
        )
    title = f"Paid so far ({currency}), without late work and what is left at the end"
    axes.set_title(title, loc="left", fontsize=9, color=MUTED)
