"""From what is known now to a plan of the markets. It takes long enough for a thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from steppe.config import PlanSection, RunConfig
from steppe.config.section import LARGEST
from steppe.errors import UsageError
from steppe.grid.limits.limit import Limit, Step
from steppe.grid.openadr.translation import Rate
from steppe.grid.plan.day import day_times, day_to_buy, from_now, steps_of_day
from steppe.grid.plan.market_site import (
    Fleet,
    MarketSite,
    market_site_of,
    planner_of,
    position_of,
    prices_of,
)
from steppe.grid.plan.planner import DatedPlan, Planner, PlanStart
from steppe.grid.plan.prices import Prices, prices_of_rates
from steppe.grid.plan.series import DAY_S, Series, Times
from steppe.grid.plan.series_file import zone_of
from steppe.grid.service.links import PLAN
from steppe.grid.service.plan.book import Book, Waiting
from steppe.grid.service.plan.imbalance import DrawHistory
from steppe.grid.service.seam import FleetPoints
from steppe.power.battery import NO_BATTERY

INTRADAY, DAY_AHEAD = "intraday", "day-ahead"
"""Names of the limits of the plan."""


@dataclass(frozen=True, slots=True)
class Made:
    """What one round of planning gave.

    Attributes:
        market: The site.
        prices: The prices.
        intraday: The plan from now on.
        day_ahead: The plan of the day that was bought; None where none was.
        book: What is bought and waits after it.
        limits: The limits to hand over.
        lifts_day_ahead: Whether the limit of the day before is to be lifted.
    """

    market: MarketSite
    prices: Prices
    intraday: DatedPlan
    day_ahead: DatedPlan | None
    book: Book
    limits: tuple[Limit, ...]
    lifts_day_ahead: bool


def check_run(run: RunConfig, section: PlanSection) -> None:
    """Check that a live run can be planned.

    Raises:
        UsageError: Its days are not those of the market, it has several models, or no OpenADR
            server states prices.
    """
    if run.power.speedup != 1.0:
        asked = "grid.plan: asked for a run in real time"
        raise UsageError(f"{asked}, found power.speedup {run.power.speedup:g}")
    if len(run.models) > 1:
        raise UsageError(f"grid.plan: asked for a run of one model, found {len(run.models)}")
    if section.openadr_prices and (run.grid is None or run.grid.openadr is None):
        raise UsageError("grid.plan.openadr_prices: asked for grid.openadr, found none")


class LivePlanner:
    """Makes plans of a run. One call at a time, from any thread."""

    def __init__(
        self, run: RunConfig, section: PlanSection, began_s: float, now_s: Callable[[], float]
    ) -> None:
        """Prepare.

        Args:
            run: The configuration of the run.
            section: Its section of the plan.
            began_s: When the run began, s since the Unix epoch: its supplies begin then.
            now_s: Reads the time, s since the Unix epoch.
        """
        self._run, self._section = run, section
        self._began_s, self._now_s = began_s, now_s

    def market(self, points: FleetPoints) -> MarketSite:
        """Return the site with these operating points; nothing carries out a plan of its battery.

        Raises:
            ConfigError: It has no connection to the grid.
            UsageError: A forecast cannot be read.
        """
        fleet = Fleet(points.frontier, points.replicas, points.mean_output_tokens)
        found = market_site_of(self._run, fleet, self._began_s, self._now_s)
        return replace(found, site=replace(found.site, battery=NO_BATTERY), stored_j=0.0)

    def made(
        self, points: FleetPoints, book: Book, history: DrawHistory, rates: Sequence[Rate]
    ) -> Made:
        """Return the plan from now on, and that of the next day if it is to be bought.

        Raises:
            ConfigError: It has no connection to the grid.
            UsageError: Prices or a forecast cannot be read, or there are none.
            InfeasibleError: No plan keeps within the limits of the connection.
        """
        now_s = self._now_s()
        market = self._with_history(self.market(points), history)
        prices = self._prices(now_s, rates)
        planner = planner_of(market, prices)
        planner = replace(planner, reserve=None)  # no market takes it from a run
        step_s = self._section.step_s
        times = from_now(now_s, step_s, steps_of_day(step_s))
        intraday = planner.plan(times, self._state(book, now_s))
        book = self._after(book, intraday, market, now_s)
        lifts = book.day_ahead is not None and book.day_ahead.watts[0].from_s <= now_s
        book = replace(book, day_ahead=None) if lifts else book
        day_ahead = None
        day = self._day_to_buy(book, now_s)
        if day is not None:
            day_ahead = self._bought(planner, book, times, day)
            book = book.with_bought(day_ahead.bought(day), now_s)
            limit = self._limit(DAY_AHEAD, planner.limits(day_ahead, day), now_s)
            book = replace(book, day_ahead=limit)
        now = self._limit(INTRADAY, planner.limits(intraday), now_s)
        limits = (now,) if book.day_ahead is None else (now, book.day_ahead)
        return Made(market, prices, intraday, day_ahead, book, limits, lifts)

    def _prices(self, now_s: float, rates: Sequence[Rate]) -> Prices:
        if not self._section.openadr_prices:
            return prices_of(self._section)
        found = prices_of_rates(rates, now_s - now_s % self._section.step_s, now_s + 2 * DAY_S)
        if found is None:
            raise UsageError("grid.plan: asked for prices of OpenADR, found none that hold now")
        return found

    def _with_history(self, market: MarketSite, history: DrawHistory) -> MarketSite:
        """Return the site with a demand from the history, where none is given."""
        if self._section.demand is not None:
            return market
        otherwise, site = market.firm_tps, market.site

        def firm_tps(times: Times) -> Sequence[float]:
            return history.expected(times, site.output_of) or otherwise(times)

        return replace(market, firm_tps=firm_tps)

    def _state(self, book: Book, now_s: float) -> PlanStart:
        position = position_of(self._section) or book.position()
        waiting = tuple((each.tokens, each.due_s) for each in book.waiting if each.due_s > now_s)
        return PlanStart(0.0, position, waiting)

    def _after(self, book: Book, plan: DatedPlan, market: MarketSite, now_s: float) -> Book:
        """Return the book after this step: what is traded now, and the work of the step."""
        times = Times(plan.times.from_s, plan.times.step_s, 1)
        if book.planned_s != times.from_s:
            came = Waiting(0.0, now_s)
            if market.work is not None:
                tokens = market.work.tokens_per_s(times)[0] * times.step_s
                came = Waiting(tokens, times.from_s + market.work.patience_s)
            done = plan.plan.deferred_tps[0] * times.step_s
            book = replace(book.after_step(came, done, now_s), planned_s=times.from_s)
        bought = Series((times.from_s,), (plan.plan.grid_w[0],), times.ends_s)
        return book.with_bought(bought, now_s)

    def _day_to_buy(self, book: Book, now_s: float) -> Times | None:
        """Return the steps of the day that is to be bought now; None for none."""
        zone = zone_of(self._section.zone)
        day = day_to_buy(now_s, zone)
        if day is None or self._section.position is not None:
            return None
        times = day_times(day, zone, self._section.step_s)
        return None if book.has_day(times) else times

    def _bought(self, planner: Planner, book: Book, times: Times, day: Times) -> DatedPlan:
        """Return the plan from now to the end of the day after the one that is bought."""
        step_s = self._section.step_s
        steps = round((day.ends_s - times.from_s) / step_s) + steps_of_day(step_s) // 2
        return planner.plan(Times(times.from_s, step_s, steps), self._state(book, times.from_s))

    def _limit(self, name: str, steps: Sequence[Step], now_s: float) -> Limit:
        """Return a limit of the plan: it holds until the link is lost."""
        default_w = LARGEST if self._section.default_w is None else self._section.default_w
        return Limit(name, PLAN, now_s, tuple(steps), None, default_w)
