"""What a simulated site shows of itself in its heartbeats."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from steppe.control.policy.goals import at_slo_if_any
from steppe.control.state import Observation
from steppe.frontier.pareto import Frontier
from steppe.power.budget import Budget
from steppe.sim.request import Request
from steppe.sim.sites.expected import OwnForecast, own_w
from steppe.sim.sites.settings import HOURS, SiteSettings
from steppe.sites.own_view import ASLEEP_TTFT_S, IDLE_SHARE
from steppe.sites.view import Demand, Expected, PoolPoint, PoolView, SiteView

MOST_POINTS = 8
RECENT_S, MOST_RECENT = 60.0, 200
"""First tokens of so many seconds, and at most so many, count for the recent times."""
FORECAST_STEPS = 1 / 3
"""A forecast is made anew after this part of a step."""
MICRO = 1e-6
N = TypeVar("N", int, float)


class Shows:
    """Makes the view of one site from its fleet and its budget."""

    def __init__(self, settings: SiteSettings, step_s: float) -> None:
        """Begin without requests.

        Args:
            settings: The site.
            step_s: Length of a step of the forecast, s of the day.
        """
        self._settings, self._step_s = settings, step_s
        self._kept = at_slo_if_any(settings.frontier, settings.slo.tpot_s)
        self._forecast = OwnForecast(settings.scenario.budget, settings.day, step_s)
        self._expected: tuple[Expected, ...] = ()
        self._forecast_s = float("-inf")
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=MOST_RECENT)
        self._points: dict[int, tuple[PoolPoint, ...]] = {}

    def note(self, request: Request) -> None:
        """Note the times of a request that has ended here."""
        if request.first_s is None or request.is_deferrable:
            return
        steps = max(1, request.output_tokens - 1)
        ttft_s = request.first_s - request.arrival.at_s
        self._recent.append((request.end_s, ttft_s, (request.end_s - request.first_s) / steps))

    def view(
        self,
        seq: int,
        now_s: float,
        observed: Observation,
        budget: Budget,
        demand: tuple[Demand, ...] = (),
    ) -> SiteView:
        """Return what the site shows.

        Args:
            seq: Number of the heartbeat.
            now_s: Now, s.
            observed: What its controller observed last.
            budget: The budget then.
            demand: What its own clients ask for.
        """
        settings, draw_w = self._settings, budget.settled.site_w
        own = sum(own_w(settings.scenario.budget, now_s))
        headroom_w = max(0.0, budget.site_budget_w - draw_w)
        if settings.day.trace_s(now_s - self._forecast_s) >= FORECAST_STEPS * self._step_s:
            self._forecast_s = now_s
            self._expected = self._forecast.at(now_s)
        hour, grid = settings.day.hour_at(now_s), settings.grid
        return SiteView(
            site=settings.name,
            seq=seq,
            received_s=now_s,
            budget_w=budget.site_budget_w,
            draw_w=draw_w,
            headroom_w=headroom_w,
            surplus_w=max(0.0, min(headroom_w, own - draw_w)),
            storage_wh=0.0,
            forecast=self._expected,
            price_micro=_from_hour(grid.price_micro, hour),
            gco2=_from_hour(grid.gco2, hour),
            currency=grid.currency,
            region=settings.region,
            data_classes=settings.data_classes,
            pools={settings.model: self._pool(now_s, observed, headroom_w)},
            demand=demand,
        )

    def _pool(self, now_s: float, observed: Observation, headroom_w: float) -> PoolView:
        usable = observed.counts.usable
        points = self._points_of(usable)
        ttft_s, tpot_s = self._times(now_s)
        if not observed.counts.awake:
            ttft_s = max(ttft_s, ASLEEP_TTFT_S)
        firm = max(0, observed.waiting - observed.deferrable.waiting)
        load_tps = observed.demand_tps + firm / tpot_s
        joules = _joules_at(points, load_tps)
        capacity_tps = points[-1].output_tps if points else 0.0
        free_tps = min(capacity_tps - load_tps, headroom_w / joules if joules else 0.0)
        return PoolView(
            model=self._settings.model,
            revision="",
            free_tps=max(0.0, free_tps),
            waiting=observed.waiting,
            ttft_s=ttft_s,
            tpot_s=tpot_s,
            uj_per_token=joules / MICRO,
            points=points,
        )

    def _points_of(self, usable: int) -> tuple[PoolPoint, ...]:
        points = self._points.get(usable)
        if points is None:
            pue = self._settings.scenario.fleet.site.pue
            points = self._points[usable] = pool_points(self._kept, usable, pue)
        return points

    def _times(self, now_s: float) -> tuple[float, float]:
        """Return the 95th percentile of the time to the first token, and the mean TPOT, s."""
        recent = self._recent
        while recent and recent[0][0] < now_s - RECENT_S:
            recent.popleft()
        if not recent:
            return IDLE_SHARE * self._settings.slo.ttft_s, self._kept.floor.tpot_s
        firsts = sorted(ttft_s for _, ttft_s, _ in recent)
        mean_s = sum(tpot_s for _, _, tpot_s in recent) / len(recent)
        return firsts[int(0.95 * (len(firsts) - 1))], max(mean_s, 1e-4)


def pool_points(kept: Frontier, replicas: int, pue: float) -> tuple[PoolPoint, ...]:
    """Return at most 8 points of replicas together, above their draw while all of them sleep.

    One replica after the other wakes at the point with the least energy per token; once all are
    awake, they go on to faster points.

    Args:
        kept: Operating points of a replica.
        replicas: Number of replicas.
        pue: Watts of the site for each watt of them.
    """
    if not replicas:
        return ()
    best = min(kept.points, key=lambda p: (p.draw_w - kept.asleep_w) / p.output_tps)
    faster = [p for p in kept.points if p.output_tps >= best.output_tps]
    step = max(1, -(-len(faster) // (MOST_POINTS - 1)))
    chosen = [*faster[::step], faster[-1]]
    return tuple(
        PoolPoint(replicas * p.output_tps, replicas * pue * (p.draw_w - kept.asleep_w))
        for p in dict.fromkeys(chosen)
    )


def _joules_at(points: tuple[PoolPoint, ...], load_tps: float) -> float:
    """Return the energy of one more output token at a load, J."""
    before = PoolPoint(0.0, 0.0)
    for point in points:
        if load_tps < point.output_tps or point is points[-1]:
            more_tps = point.output_tps - before.output_tps
            return (point.draw_w - before.draw_w) / more_tps if more_tps > 0 else 0.0
        before = point
    return 0.0


def _from_hour(values: tuple[N, ...], hour: int) -> tuple[N, ...]:
    """Return the values of a day from an hour on."""
    if len(values) < HOURS:
        return values
    return values[hour:] + values[:hour]
