"""What the plan of the markets starts from, as a configuration describes it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from steppe.config import PlanSection, RunConfig
from steppe.config.grid_plan import MILLION, ForecastFileSection
from steppe.errors import ConfigError, UsageError
from steppe.frontier.pareto import Frontier
from steppe.grid.plan.planner import Forecast, Planner, ReserveTerms, WorkForecast
from steppe.grid.plan.prices import Prices, Unit, read_prices
from steppe.grid.plan.series import Series, Times
from steppe.grid.plan.series_file import Columns, read_series, zone_of
from steppe.grid.plan.terms import Edge, Site, edges_of, per_mwh
from steppe.power.battery import NO_BATTERY, battery_from_config
from steppe.power.budget import PowerBudget, budget_from_config
from steppe.power.signal import Fresh
from steppe.power.supply import Supply, TraceClock, is_firm, offered, supply_from_config

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class MarketSite:
    """A site and what is expected of it.

    Attributes:
        section: Its section of the configuration.
        zone: Time zone of the market.
        begins_s: Calendar time at which its supplies begin, s since the Unix epoch.
        site: The site; its `later_price` is 0 until prices are known.
        stored_j: Energy in the battery at the start, J.
        supplied_w: What the supplies that are not firm know of their future, W.
        renewable_w: Forecast of wind and sun at the site, W.
        firm_tps: Forecast of output tokens per second that cannot wait.
        work: Work that can wait; None without any.
    """

    section: PlanSection
    zone: tzinfo
    begins_s: float
    site: Site
    stored_j: float
    supplied_w: Forecast
    renewable_w: Forecast
    firm_tps: Forecast
    work: WorkForecast | None


def plan_section(config: RunConfig) -> PlanSection:
    """Return the section of the plan.

    Raises:
        ConfigError: There is none.
    """
    section = config.grid.plan if config.grid is not None else None
    if section is None:
        raise ConfigError("grid.plan: asked for what tokens are worth, found no such section")
    return section


@dataclass(frozen=True, slots=True)
class Fleet:
    """The fleet of a plan.

    Attributes:
        frontier: Operating points of one replica.
        replicas: How many there are.
        mean_output_tokens: Mean output tokens of a request of the load.
    """

    frontier: Frontier
    replicas: int
    mean_output_tokens: float


def prices_of(section: PlanSection) -> Prices:
    """Return the prices of the file of a plan.

    Raises:
        ConfigError: There is none.
        UsageError: It cannot be read.
    """
    chosen = section.prices
    if chosen is None:
        raise ConfigError("grid.plan.prices: asked for a file of prices, found none")
    columns = (chosen.time_column, chosen.price_column)
    return read_prices(chosen.path, Unit.read(chosen.unit), zone_of(section.zone), columns)


def position_of(section: PlanSection) -> Series | None:
    """Return what the site has bought by other means; None where the plan buys it.

    Raises:
        UsageError: The file cannot be read.
    """
    file = section.position
    if file is None:
        return None
    columns = Columns(file.time_column, file.value_column, zone_of(section.zone), -1e12, 1e12)
    return read_series(file.path, columns)


def market_site_of(
    config: RunConfig, fleet: Fleet, begins_s: float, wall_s: Callable[[], float] = time.time
) -> MarketSite:
    """Return the site of a fleet.

    Args:
        config: The configuration.
        fleet: The fleet.
        begins_s: Calendar time at which its supplies begin, s since the Unix epoch.
        wall_s: Reads the clock that stamps signal files, s since the Unix epoch.

    Raises:
        ConfigError: It has no connection to the grid.
        UsageError: A forecast cannot be read.
    """
    section = plan_section(config)
    budget = budget_from_config(config.power, config.site)
    supplies = [supply_from_config(each, config.power, wall_s) for each in config.power.supply]
    battery, stored_j = NO_BATTERY, 0.0
    if config.power.battery is not None:
        battery, stored_j = battery_from_config(config.power.battery)
    floor_w, edges = edges_of(fleet.frontier, fleet.replicas)
    pue = budget.site_draw_w(1.0) - budget.site_draw_w(0.0)
    site = Site(
        floor_w=budget.site_draw_w(floor_w),
        edges=tuple(Edge(pue * edge.draw_w, edge.output_tps) for edge in edges),
        import_limit_w=_import_limit_w(section, supplies, budget),
        firm_token_value=section.firm_token_value / MILLION,
        later_price=0.0,
        battery=battery,
        export_limit_w=section.export_limit_w,
        step_s=section.step_s,
        late_penalty=section.token_value / MILLION,
    )
    zone = zone_of(section.zone)
    full_tps = site.output_of(site.most_w)
    supplied_w = _Renewable(supplies, budget, begins_s)
    usual = _UsualLoad(config, zone, fleet.mean_output_tokens, full_tps)
    return MarketSite(
        section=section,
        zone=zone,
        begins_s=begins_s,
        site=site,
        stored_j=stored_j,
        supplied_w=supplied_w,
        renewable_w=_from_file(section.renewable, zone, supplied_w),
        firm_tps=_from_file(section.demand, zone, usual.firm_tps),
        work=_work(section, usual, zone, config.gateway.max_wait_s * config.power.speedup),
    )


def planner_of(found: MarketSite, prices: Prices) -> Planner:
    """Return the planner of a site at some prices."""
    section = found.section
    if section.later_price is not None:
        later_price = per_mwh(section.later_price)
    else:
        later_price = prices.per_j.mean(prices.per_j.begins_s, prices.per_j.ends_s) or 0.0
    reserve = section.reserve
    return Planner(
        site=replace(found.site, later_price=later_price),
        prices=prices.per_j,
        renewable_w=found.renewable_w,
        firm_tps=found.firm_tps,
        work=found.work,
        reserve=None
        if reserve is None
        else ReserveTerms(per_mwh(reserve.price), reserve.called_share, reserve.hold_s),
        intraday_spread=per_mwh(section.intraday_spread),
        headroom_share=section.headroom_share,
    )


def _import_limit_w(section: PlanSection, supplies: Sequence[Supply], budget: PowerBudget) -> float:
    if section.import_limit_w is not None:
        return section.import_limit_w
    firm = [supply for supply in supplies if is_firm(supply)]
    found_w = _sum_w(firm, 0.0, budget)
    if found_w <= 0.0:
        raise ConfigError("grid.plan.import_limit_w: asked for it, found no firm supply")
    return found_w


def _sum_w(supplies: Sequence[Supply], run_s: float, budget: PowerBudget) -> float:
    """Return what supplies offer at a time of the run, W; one that is stale offers nothing."""
    clock = TraceClock(0.0, 1.0)
    found = (offered(each, run_s, clock, math.inf, budget.site_draw_w) for each in supplies)
    return sum(reading.watts for reading in found if isinstance(reading, Fresh))


class _Renewable:
    """What the supplies that are not firm know of their future."""

    def __init__(self, supplies: Sequence[Supply], budget: PowerBudget, begins_s: float) -> None:
        self._supplies = [supply for supply in supplies if not is_firm(supply)]
        self._budget, self._begins_s = budget, begins_s

    def __call__(self, times: Times) -> Sequence[float]:
        """Return what they offer in the middle of each step, W."""
        middle_s = times.step_s / 2 - self._begins_s
        return [_sum_w(self._supplies, at_s + middle_s, self._budget) for at_s in times]


class _UsualLoad:
    """What the load of a configuration usually asks for."""

    def __init__(
        self, config: RunConfig, zone: tzinfo, mean_output_tokens: float, full_tps: float
    ) -> None:
        load, classes = config.load, config.load.priorities
        mean_tps = load.utilisation * full_tps
        if load.rate_rps is not None:
            mean_tps = load.rate_rps * mean_output_tokens
        whole = classes.interactive + classes.standard + classes.deferrable
        self._zone, self._mean_tps = zone, mean_tps
        self._depth, self._peak_hour = load.daily_depth, load.daily_peak_hour
        self._deferrable = classes.deferrable / whole

    @property
    def waits(self) -> bool:
        """Whether some of it can wait."""
        return self._deferrable > 0.0 and self._mean_tps > 0.0

    def firm_tps(self, times: Times) -> Sequence[float]:
        """Return the output tokens per second that cannot wait."""
        return [(1.0 - self._deferrable) * self._tps(at_s) for at_s in times]

    def deferrable_tps(self, times: Times) -> Sequence[float]:
        """Return the output tokens per second that can wait, as they come."""
        return [self._deferrable * self._tps(at_s) for at_s in times]

    def _tps(self, at_s: float) -> float:
        turn = 2 * math.pi * (_hour(at_s, self._zone) - self._peak_hour) / 24
        return self._mean_tps * (1.0 + self._depth * math.cos(turn))


def _work(
    section: PlanSection, usual: _UsualLoad, zone: tzinfo, longest_wait_s: float
) -> WorkForecast | None:
    """Return the work that can wait; without a section, requests that wait at the gateway."""
    value = section.token_value / MILLION
    work = section.work
    if work is None:
        early_s = min(HOUR_S, longest_wait_s / 4)
        patient = WorkForecast(usual.deferrable_tps, longest_wait_s, value, early_s)
        return patient if usual.waits else None
    rate = work.tokens_per_day / (HOUR_S * (work.until_hour - work.from_hour))

    def tokens_per_s(times: Times) -> Sequence[float]:
        hours = (_hour(at_s, zone) for at_s in times)
        return [rate if work.from_hour <= hour < work.until_hour else 0.0 for hour in hours]

    early_s = min(HOUR_S, work.patience_s / 4)
    return WorkForecast(tokens_per_s, work.patience_s, value, early_s)


def _from_file(file: ForecastFileSection | None, zone: tzinfo, otherwise: Forecast) -> Forecast:
    """Return the forecast of a file, or another one where there is none."""
    if file is None:
        return otherwise
    columns = Columns(file.time_column, file.value_column, zone, 0.0, 1e12)
    series = read_series(file.path, columns)

    def expected(times: Times) -> Sequence[float]:
        values, missing = series.expected(times)
        if missing == times.steps:
            raise UsageError(
                f"{file.path}: asked for values from {_text(times.from_s, zone)}, "
                f"found some until {_text(series.ends_s, zone)}"
            )
        return values

    return expected


def _hour(at_s: float, zone: tzinfo) -> float:
    now = datetime.fromtimestamp(at_s, zone)
    return now.hour + now.minute / 60 + now.second / 3600


def _text(at_s: float, zone: tzinfo) -> str:
    return datetime.fromtimestamp(at_s, zone).isoformat()
