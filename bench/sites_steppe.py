"""Steppe's choice of a site in the model: its own decision, quotas, pins and plan.

Each home has what a gateway has: the last beats (`PreparedSites`), leases (`Quotas`) and
conversations (`Pins`). Every five minutes `plan_sites` plans an hour from forecasts with errors;
the load is forecast to stay. Leases are renewed with the beats. A parcel is one call of `decide`
for a request of its kind, and counts with all its requests in what is taken and spent. All are
interactive.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sites_model import Parcel, Sites
from sites_replica import LENGTHS, SLO_S, TPOT_S, SiteTable
from sites_world import GOES_ON, PREFIX, QUARTER_S, World, forecast_at
from steppe.sites.decide import decide
from steppe.sites.pins import Pins
from steppe.sites.plan.solve import plan_sites
from steppe.sites.plan.terms import Flow, PlanTerms, SitesPlan, site_of
from steppe.sites.prepared import PreparedSites, Weights
from steppe.sites.quotas import Quotas
from steppe.sites.view import Expected, PoolPoint, PoolView, RequestView, SiteView

Floats = NDArray[np.float64]
MODEL, REGION, CLASS = "m", "cn", "public"
PLAN_S, LEASE_S, FORECAST = 300.0, 60.0, 4
P10 = 1.2816
POINTS = 8
CLASSES = ("interactive",)
"""Classes of the conversations, in turn."""
BURST_S = 40.0
"""For how long tokens that are not sent are kept, s: parcels are much larger than requests, and the
usual 10 s would waste quotas that requests use."""
KEPT_SHARE = 0.06
"""Share of its capacity that a site keeps for its own customers: it shows others less room."""
REFUSED_S = 5.0
RECENT_S = 300.0


class Steppe:
    """The policy.

    Args:
        world: The world.
        table: What each site does.
        every_s: Time between two plans, s.
    """

    def __init__(self, world: World, table: SiteTable, every_s: float = PLAN_S) -> None:
        self.world, self.table, self.every_s = world, table, every_s
        self.names = world.names
        self.order = [(name, *(n for n in self.names if n != name)) for name in self.names]
        self.index = {name: number for number, name in enumerate(self.names)}
        self.trips = [dict(zip(self.names, row, strict=True)) for row in world.rtt_s.tolist()]
        self.rtt_s = {(one, other): self.trips[i][other] for i, one in enumerate(self.names)
                      for other in self.names}  # fmt: skip
        self.quotas = [Quotas(order, 0.0, BURST_S) for order in self.order]
        self.pins = [Pins() for _ in self.names]
        self.prepared: list[PreparedSites | None] = [None] * len(self.names)
        self.refusals: list[dict[str, float]] = [{} for _ in self.names]
        self.recent_rps = world.requests[0] / world.case.step_s
        self.plan: SitesPlan | None = None
        self.due_s, self.now_s, self.heard_s = 0.0, 0.0, 0.0
        self.rng = random.Random(world.case.seed)
        self.terms, self.weights = PlanTerms(step_s=QUARTER_S), Weights()
        self.work = 1 - table.prompt_share * PREFIX * GOES_ON
        self.points = pool_points(table)
        self.kinds = [_asked(each) for each in CLASSES]
        self.concurrent: list[float] = []
        self.energy = energy_of(table)

    def begin(self, sites: Sites) -> None:
        """Take the beats, plan if it is time, renew the leases."""
        world, step_s = self.world, self.world.case.step_s
        self.now_s = sites.now_s
        if sites.step % world.case.beat_steps and self.plan is not None:
            for quotas in self.quotas:
                quotas.advance(sites.now_s)
            return
        self.heard_s = sites.now_s
        last = world.requests[max(0, sites.step - world.case.beat_steps) : max(1, sites.step)]
        share = min(1.0, len(last) * step_s / RECENT_S)
        came_rps = last.mean(axis=0) / step_s
        self.recent_rps = self.recent_rps + share * (came_rps - self.recent_rps)
        is_due = sites.now_s >= self.due_s
        views = self._views(sites, with_forecast=is_due)
        if is_due:
            self.due_s = sites.now_s + self.every_s
            self.plan = self._plan(views)
        self.concurrent = ((1 - np.exp(-step_s / sites.stay_s)) * sites.stay_s / step_s).tolist()
        by_name = {view.site: self._to_others(view) for view in views}
        for number, name in enumerate(self.names):
            quotas = self.quotas[number]
            quotas.advance(sites.now_s)
            if self.plan is not None:
                quotas.grant(self.plan.leases(name, sites.now_s, LEASE_S))
            self.prepared[number] = PreparedSites(
                self.order[number], views[number], by_name, self.trips[number], self.weights,
                before=self.prepared[number],
            )  # fmt: skip

    def choose(self, parcel: Parcel, refused: int) -> int:
        """Decide for a request of the parcel."""
        home = parcel.origin
        prepared = self.prepared[home]
        assert prepared is not None
        if refused >= 0:
            self.refusals[home][self.names[refused]] = self.now_s + REFUSED_S
        key = f"{parcel.slot}"
        if parcel.fresh and refused < 0:
            self.pins[home].drop(key)
        kind = self.kinds[parcel.slot % len(CLASSES)]
        asked = RequestView(
            kind.model, None, kind.priority, kind.regions, kind.data_class, parcel.prompt_tokens,
            kind.output_tokens, key, None, kind.ttft_s, kind.tpot_s,
        )  # fmt: skip
        choice = decide(
            asked, prepared, self.quotas[home], pin=self.pins[home].find(key, self.now_s),
            refused=self.refusals[home], now_s=self.heard_s, rng=self.rng,
        )  # fmt: skip
        return home if choice.site is None else self.index[choice.site]

    def sent(self, parcel: Parcel, site: int) -> None:
        """Take, spend and pin."""
        home, name = parcel.origin, self.names[site]
        prepared, kind = self.prepared[home], self.kinds[parcel.slot % len(CLASSES)]
        assert prepared is not None
        prepared.take(kind, name, parcel.requests * self.concurrent[site])
        if site != home:
            tokens = parcel.requests * kind.output_tokens
            self.quotas[home].spend(name, kind.model, kind.priority, tokens)
        cached = round(PREFIX * parcel.prompt_tokens)
        self.pins[home].keep(f"{parcel.slot}", name, cached, self.now_s)

    def _views(self, sites: Sites, *, with_forecast: bool) -> list[SiteView]:
        """Return the beats of all sites."""
        forecasts: list[tuple[Expected, ...]] = [()] * len(self.names)
        if with_forecast:
            forecasts = self._forecasts(sites)
        hour = self.world.hour(sites.step)
        most_w = float(self.table.draw_w[-1])
        step_s = np.interp(sites.load_rps, self.table.load_rps, self.table.step_s).tolist()
        tpot_s = np.interp(sites.load_rps, self.table.load_rps, self.table.tpot_s).tolist()
        load, wait = sites.load_rps.tolist(), sites.wait_s.tolist()
        draw, renewable = sites.draw_w.tolist(), sites.renewable_w.tolist()
        return [
            SiteView(
                name, sites.step, sites.now_s, most_w + renewable[i], draw[i],
                max(0.0, most_w + renewable[i] - draw[i]), max(0.0, renewable[i] - draw[i]), 0.0,
                forecasts[i],
                tuple(round(1e6 * price) for price in np.roll(self.world.price[i], -hour)),
                (float(self.world.gco2[i]),), "CNY", REGION, frozenset({CLASS}),
                {MODEL: self._pool(load[i], wait[i], step_s[i], tpot_s[i])},
            )
            for i, name in enumerate(self.names)
        ]  # fmt: skip

    def _to_others(self, view: SiteView) -> SiteView:
        """Return what a site shows to others: less room than it has."""
        pool = view.pools[MODEL]
        free_tps = max(0.0, pool.free_tps - KEPT_SHARE * pool.capacity_tps)
        return replace(view, pools={MODEL: replace(pool, free_tps=free_tps)})

    def _pool(self, load_rps: float, wait_s: float, step_s: float, tpot_s: float) -> PoolView:
        """Return what a site shows of its pool."""
        free_tps = (self.table.capacity_rps - load_rps) / self.work * LENGTHS.output_tokens
        at = min(len(self.energy) - 1, int(load_rps / self.table.load_rps[1]))
        output_uj, prompt_uj, prompt_s = self.energy[at]
        return PoolView(
            MODEL, "r", free_tps, round(wait_s * self.table.capacity_rps), 3 * step_s + wait_s,
            tpot_s, output_uj, self.points, prompt_uj, prompt_s,
        )  # fmt: skip

    def _forecasts(self, sites: Sites) -> list[tuple[Expected, ...]]:
        middle, spread = forecast_at(self.world, sites.step, FORECAST)
        low, high = np.maximum(0.0, middle - P10 * spread), middle + P10 * spread
        return [
            tuple(
                Expected(sites.now_s + QUARTER_S * q, float(low[q, i]), float(middle[q, i]),
                         float(high[q, i]))
                for q in range(FORECAST)
            )
            for i in range(len(self.names))
        ]  # fmt: skip

    def _plan(self, views: Sequence[SiteView]) -> SitesPlan:
        """Return the plan of these beats."""
        flows = [
            Flow(name, MODEL, priority, frozenset({REGION}), CLASS,
                 [rps * LENGTHS.output_tokens / len(CLASSES)] * FORECAST, ttft_s=SLO_S)
            for name, rps in zip(self.names, self.recent_rps.tolist(), strict=True)
            for priority in CLASSES
        ]  # fmt: skip
        sites = [site_of(view, self.weights.money_per_g) for view in views]
        last = None if self.plan is None else self.plan.quotas
        return plan_sites(sites, flows, self.rtt_s, self.terms, last)


def _asked(priority: str) -> RequestView:
    return RequestView(
        MODEL, None, priority, frozenset({REGION}), CLASS, round(LENGTHS.prompt_tokens),
        round(LENGTHS.output_tokens), ttft_s=SLO_S, tpot_s=TPOT_S,
    )  # fmt: skip


def pool_points(table: SiteTable) -> tuple[PoolPoint, ...]:
    """Return at most 8 points of a site: output tokens per second and draw above none, W."""
    work = 1 - table.prompt_share * PREFIX * GOES_ON
    loads = np.linspace(0.0, table.capacity_rps, POINTS + 1)[1:]
    draws = np.interp(loads, table.load_rps, table.draw_w) - table.base_w
    tps = loads / work * LENGTHS.output_tokens
    return tuple(PoolPoint(*each) for each in zip(tps.tolist(), draws.tolist(), strict=True))


def energy_of(table: SiteTable) -> list[tuple[float, float, float]]:
    """Return what one more request adds at each load of the table.

    Energy of an output and of a prompt token, microjoules, and time of a prompt token, s.
    """
    request_j = np.gradient(table.draw_w, table.load_rps)
    prompt_j = table.prompt_share * request_j
    columns = (
        1e6 * (request_j - prompt_j) / LENGTHS.output_tokens,
        1e6 * prompt_j / LENGTHS.prompt_tokens,
        table.prompt_s / LENGTHS.prompt_tokens,
    )
    return [(a, b, c) for a, b, c in np.stack(columns, 1).tolist()]
