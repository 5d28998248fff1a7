"""What the planner of several sites is given, and what it returns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from steppe.sites.quotas import RAMP_PER_S, QuotaLease
from steppe.sites.view import PoolView, SiteView

STEP_S = 900.0
MICRO = 1e-6
J_PER_KWH = 3.6e6


class Edge(NamedTuple):
    """A part of the output of a pool, and what it draws.

    Attributes:
        output_tps: Output tokens per second of the whole part.
        draw_w: Draw of the whole part, W.
    """

    output_tps: float
    draw_w: float


@dataclass(frozen=True, slots=True)
class PlanPool:
    """The replicas of a model at a site.

    Attributes:
        edges: Parts of its output, by rising energy per token.
        first_s: Time to the first token there, s.
    """

    edges: tuple[Edge, ...]
    first_s: float

    @property
    def capacity_tps(self) -> float:
        """Most output tokens per second."""
        return sum(edge.output_tps for edge in self.edges)


@dataclass(frozen=True, slots=True)
class PlanSite:
    """What a site can do in each step.

    Attributes:
        name: Its name.
        region: Its region.
        data_classes: Classes of data that it may process.
        base_w: Draw without requests, W.
        budget_w: Most draw in each step, a lower quantile, W.
        renewable_w: Power of its own wind and sun in each step, W.
        grid_cost: What a joule from the grid costs in each step, carbon included.
        pools: Its pools by model.
    """

    name: str
    region: str
    data_classes: frozenset[str]
    base_w: float
    budget_w: Sequence[float]
    renewable_w: Sequence[float]
    grid_cost: Sequence[float]
    pools: Mapping[str, PlanPool]

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.budget_w)


@dataclass(frozen=True, slots=True)
class Flow:
    """Requests of one kind that come to a site.

    Attributes:
        origin: The site to which they come.
        model: Their model.
        priority: Their class; deferrable ones may wait.
        regions: Regions that their tenants allow.
        data_class: Class of their data.
        output_tps: Output tokens per second that are expected in each step.
        ttft_s: Longest time to the first token, s.
        backlog_tokens: Output tokens of deferrable requests that wait already.
    """

    origin: str
    model: str
    priority: str
    regions: frozenset[str]
    data_class: str
    output_tps: Sequence[float]
    ttft_s: float
    backlog_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """What tokens are worth and moves cost, in the currency of the prices.

    Attributes:
        token_value: What a token of each class is worth. It must exceed the cost of its energy.
        moved_token: Cost of a token that another site generates: its prefix is not cached there.
        changed_token: Cost of a token per second of change of a quota against the last plan.
        targets: Most sites to which a flow may go, its own included.
        step_s: Length of a step, s.
    """

    token_value: Mapping[str, float] = field(
        default_factory=lambda: {"interactive": 3e-5, "standard": 2e-5, "deferrable": 1e-5}
    )
    moved_token: float = 2e-9
    changed_token: float = 1e-7
    targets: int = 5
    step_s: float = STEP_S


class Way(NamedTuple):
    """What may be sent from a site to another one.

    Attributes:
        origin: Where the requests come.
        site: Where they run.
        model: Their model.
        priority: Their class.
    """

    origin: str
    site: str
    model: str
    priority: str


@dataclass(frozen=True, slots=True)
class SitesPlan:
    """The quotas of the next step, and what the whole plan would do.

    Attributes:
        quotas: Output tokens per second on each way between two sites in the first step; none for
            ways without any.
        capacity_tps: Most output tokens per second of each site and model.
        draw_w: Draw of each site in each step, W.
        grid_j: Energy from the grid over all steps, J; what idle sites draw is part of it.
        grid_cost: Its cost, carbon included.
        served: Output tokens that are served over all steps.
        missed: Output tokens that are not: no site has power or capacity for them.
        moved: Output tokens that another site than their own serves.
    """

    quotas: Mapping[Way, float]
    capacity_tps: Mapping[tuple[str, str], float]
    draw_w: Mapping[str, tuple[float, ...]]
    grid_j: float
    grid_cost: float
    served: float
    missed: float
    moved: float

    def leases(self, origin: str, received_s: float, lasts_s: float) -> tuple[QuotaLease, ...]:
        """Return the leases of a site; the ramps of all leases to a site and model share one limit.

        Args:
            origin: The site.
            received_s: When it received the plan, by its own monotonic clock, s.
            lasts_s: For how long the leases hold, s.
        """
        found = []
        for way, output_tps in self.quotas.items():
            if way.origin != origin:
                continue
            ramp_tps2 = RAMP_PER_S * self.capacity_tps[way.site, way.model] * self._share(way)
            found.append(
                QuotaLease(
                    way.site, way.model, way.priority, output_tps, ramp_tps2, received_s, lasts_s
                )
            )
        return tuple(found)

    def _share(self, way: Way) -> float:
        """Return the share of a way in all quotas to its site and model."""
        to = way.site, way.model
        return self.quotas[way] / sum(
            tps for each, tps in self.quotas.items() if (each.site, each.model) == to
        )


def site_of(view: SiteView, money_per_g: float) -> PlanSite:
    """Return what a site can do in the steps of its forecast.

    The forecast is of its wind and sun. What the budget is above that now, the grid gives all the
    time. The budget counts with the lower quantile of the forecast, green energy with the median.

    Args:
        view: Its last heartbeat.
        money_per_g: What a gram of CO2 costs.
    """
    forecast = view.forecast
    grid_w = max(0.0, view.budget_w - forecast[0].p50_w) if forecast else view.budget_w
    hours = [int((each.start_s - forecast[0].start_s) // 3600.0) for each in forecast]
    cost = [
        _hour(view.price_micro, hour) * MICRO + money_per_g * _hour(view.gco2, hour)
        for hour in hours
    ]
    pools = {pool.model: PlanPool(edges_of(pool), pool.ttft_s) for pool in view.pools.values()}
    serving_w = sum(_serving_w(pool) for pool in view.pools.values())
    return PlanSite(
        view.site, view.region, view.data_classes,
        base_w=max(0.0, view.draw_w - serving_w),
        budget_w=[grid_w + each.p10_w for each in forecast],
        renewable_w=[each.p50_w for each in forecast],
        grid_cost=[each / J_PER_KWH for each in cost],
        pools=pools,
    )  # fmt: skip


def edges_of(pool: PoolView) -> tuple[Edge, ...]:
    """Return the parts of the output of a pool, by rising energy per token.

    They join the points that no mix of others beats, from nothing at 0 W on. Without points there
    is one part, at the energy per token.
    """
    if not pool.points:
        return (Edge(pool.free_tps, pool.free_tps * pool.uj_per_token * MICRO),)
    hull: list[tuple[float, float]] = [(0.0, 0.0)]
    for output_tps, draw_w in sorted(pool.points):
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(
            hull[-1], (output_tps, draw_w)
        ):
            hull.pop()
        if output_tps > hull[-1][0]:
            hull.append((output_tps, draw_w))
    return tuple(Edge(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(hull))


def _slope(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the energy per token between two points, J."""
    more_tps = other[0] - one[0]
    return (other[1] - one[1]) / more_tps if more_tps > 0.0 else float("inf")


def _serving_w(pool: PoolView) -> float:
    """Return what the requests of a pool draw now, W."""
    left_tps, draw_w = max(0.0, pool.capacity_tps - pool.free_tps), 0.0
    for edge in edges_of(pool):
        used = min(1.0, left_tps / edge.output_tps) if edge.output_tps else 0.0
        draw_w += used * edge.draw_w
        left_tps = max(0.0, left_tps - edge.output_tps)
    return draw_w


def _hour(values: Sequence[float], hour: int) -> float:
    """Return the value of an hour, the nearest one outside them; 0 if there is none."""
    return float(values[min(max(hour, 0), len(values) - 1)]) if values else 0.0
