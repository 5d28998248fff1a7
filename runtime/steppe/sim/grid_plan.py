"""The plan of the markets of a simulated run: one plan of its days, handed over in virtual time."""

from __future__ import annotations

import math
from dataclasses import replace

from steppe.config import PlanSection, RunConfig
from steppe.config.section import LARGEST
from steppe.errors import ConfigError, UsageError
from steppe.grid.limits.limit import Limit, Link, Step
from steppe.grid.plan.day import steps_of_day
from steppe.grid.plan.market_site import Fleet, market_site_of, planner_of, prices_of
from steppe.grid.plan.planner import PlanStart
from steppe.grid.plan.series import Times
from steppe.grid.plan.series_file import zone_of
from steppe.grid.service.links import PLAN
from steppe.grid.service.plan.live import DAY_AHEAD
from steppe.power.battery import NO_BATTERY


def plan_link(section: PlanSection, speedup: float) -> Link:
    """Return the link of the plan in a run whose days pass faster."""
    default_w = LARGEST if section.default_w is None else section.default_w
    return Link(PLAN, default_w, section.lost_s / speedup)


def planned_limit(
    config: RunConfig, section: PlanSection, fleet: Fleet, began_s: float
) -> tuple[Limit, float]:
    """Return the limit that follows from the plan, and how often it is handed over, s.

    The plan is made once, at the start, for all of the run and a day more.

    Args:
        config: The run.
        section: Its section of the plan.
        fleet: Its fleet.
        began_s: When the run begins, s since the Unix epoch of its limits.

    Raises:
        ConfigError: The run has no date, or no connection to the grid.
        UsageError: There are no prices of its days, or a file cannot be read.
        InfeasibleError: No plan keeps within the limits of the connection.
    """
    start, speedup, step_s = config.power.start, config.power.speedup, section.step_s
    if start is None:
        raise ConfigError("power.start: asked for the day of grid.plan, found none")
    dated = start if start.tzinfo else start.replace(tzinfo=zone_of(section.zone))
    begins_s = dated.timestamp()
    steps = math.ceil(config.sim.duration_s * speedup / step_s)
    run = Times(begins_s, step_s, steps)
    prices = prices_of(section)
    if not prices.per_j.covers(run.from_s, run.ends_s):
        raise UsageError(f"grid.plan.prices: asked for prices of the run from {start}, found none")
    market = market_site_of(config, fleet, begins_s)
    market = replace(market, site=replace(market.site, battery=NO_BATTERY), stored_j=0.0)
    planner = replace(planner_of(market, prices), reserve=None)
    plan = planner.plan(Times(begins_s, step_s, steps + steps_of_day(step_s)), PlanStart())
    schedule = tuple(
        Step(began_s + (step.from_s - begins_s) / speedup, step.watts)
        for step in planner.limits(plan, run)
    )
    default_w = LARGEST if section.default_w is None else section.default_w
    return Limit(DAY_AHEAD, PLAN, began_s, schedule, None, default_w), step_s / speedup
