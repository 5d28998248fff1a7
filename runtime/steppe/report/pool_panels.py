"""The panels that a figure has only with several models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.report.pool_series import PoolSeries

Floats = NDArray[np.float64]
MOST_ALIASES = 2
"""A figure shows the variants of no more aliases."""


@dataclass(frozen=True, slots=True, eq=False)
class PoolPanel:
    """Values of several models, drawn on top of one another.

    Attributes:
        title: What they are.
        values: One value a point, by model; (n,) each.
        most: Largest value of the axis.
        formatter: How the axis writes them, as a format string of `x`.
    """

    title: str
    values: Mapping[str, Floats]
    most: float
    formatter: str


def pool_panels(series: PoolSeries) -> list[PoolPanel]:
    """Return the draw of each model, and the variants of each alias; none with one model."""
    if not series.draw_w:
        return []
    draws_kw = {name: watts / 1000 for name, watts in series.draw_w.items()}
    most_kw = max(1e-3, float(np.sum(list(draws_kw.values()), axis=0).max()))
    panels = [PoolPanel("Draw by model (kW)", draws_kw, 1.1 * most_kw, "{x:.3g}")]
    for alias, shares in list(series.variants.items())[:MOST_ALIASES]:
        # A model has one colour in all panels.
        ordered = {name: shares.get(name, np.zeros_like(draws_kw[name])) for name in draws_kw}
        panels.append(PoolPanel(f"Share of {alias} by variant", ordered, 1.0, "{x:.0%}"))
    return panels
