"""The energy of one of several sites, tick by tick: from where it came, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from steppe.report.records import TickRecord

J_PER_KWH = 3.6e6
MICRO = 1e-6
POINTS = 288
"""Points of a figure: five minutes of a day each."""
OWN = ("wind", "sun", "other")
"""Sources of a tick that are no bought power. What a battery gives counts as bought."""


@dataclass(frozen=True, slots=True)
class SiteEnergyTerms:
    """What the energy of a site costs.

    Attributes:
        own_w: Returns its wind and sun at a time of the run, W.
        hour_at: Returns the hour of the day at a time of the run.
        price_micro: Price of grid energy, millionths of a currency per kilowatt-hour: one, or one
            for each hour of a day.
        gco2: Carbon of grid energy, grams of CO2 per kilowatt-hour: the same.
    """

    own_w: Callable[[float], float]
    hour_at: Callable[[float], int]
    price_micro: Sequence[int]
    gco2: Sequence[float]


def _zeros() -> list[float]:
    return [0.0] * POINTS


@dataclass(slots=True)
class SiteSeries:
    """Means over the run for a figure, `POINTS` of each.

    Attributes:
        own_w: Wind and sun, W.
        draw_w: Draw, W.
        output_tps: Output tokens per second.
    """

    own_w: list[float] = field(default_factory=_zeros)
    draw_w: list[float] = field(default_factory=_zeros)
    output_tps: list[float] = field(default_factory=_zeros)


@dataclass(slots=True)
class SiteEnergy:
    """The energy of one site so far.

    Attributes:
        terms: What it costs.
        duration_s: Length of the run, s.
        energy_j: Energy that the site drew, J.
        own_j: Energy that its wind and sun gave, used or not, J.
        grid_j: The part of its draw that was bought, J.
        cost: Its cost, in the currency of the prices.
        carbon_g: Its carbon, g.
        over_j: Energy of the GPUs above their budget, J.
        most_over_w: The most by which they were above it, W.
        output_tokens: Output tokens of its fleet.
        series: Means over the run.
    """

    terms: SiteEnergyTerms
    duration_s: float
    energy_j: float = 0.0
    own_j: float = 0.0
    grid_j: float = 0.0
    cost: float = 0.0
    carbon_g: float = 0.0
    over_j: float = 0.0
    most_over_w: float = 0.0
    output_tokens: int = 0
    series: SiteSeries = field(default_factory=SiteSeries)
    _last_s: float = 0.0

    def add(self, tick: TickRecord) -> None:
        """Add a tick."""
        began_s, self._last_s = self._last_s, tick.t_s
        width_s, terms = tick.t_s - began_s, self.terms
        sources_w = tick.sources_w or {"grid": tick.site_w}
        draw_w, own_w = sum(sources_w.values()), terms.own_w(began_s)
        grid_w = sum(watts for source, watts in sources_w.items() if source not in OWN)
        hour, bought_kwh = terms.hour_at(began_s), grid_w * width_s / J_PER_KWH
        self.energy_j += draw_w * width_s
        self.own_j += own_w * width_s
        self.grid_j += grid_w * width_s
        self.cost += bought_kwh * MICRO * terms.price_micro[hour % len(terms.price_micro)]
        self.carbon_g += bought_kwh * terms.gco2[hour % len(terms.gco2)]
        over_w = max(0.0, tick.draw_w - tick.budget_w)
        self.over_j += over_w * width_s
        self.most_over_w = max(self.most_over_w, over_w)
        self.output_tokens += tick.output_tokens
        self._add_to_series(began_s, width_s, (own_w, draw_w, tick.output_tokens / width_s))

    def _add_to_series(
        self, began_s: float, width_s: float, values: tuple[float, float, float]
    ) -> None:
        point_s = self.duration_s / POINTS
        end_s = began_s + width_s
        series = (self.series.own_w, self.series.draw_w, self.series.output_tps)
        while began_s < end_s - 1e-9:
            point = min(POINTS - 1, int(began_s / point_s + 1e-9))
            until_s = end_s if point == POINTS - 1 else min(end_s, (point + 1) * point_s)
            share = (until_s - began_s) / point_s
            for each, value in zip(series, values, strict=True):
                each[point] += value * share
            began_s = until_s
