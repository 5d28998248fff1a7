"""The limits of the grid in the power budget."""

from __future__ import annotations

from tests.grid.limits.world import LINK, Process, World

from steppe.grid.limits.signal import LimitSignal
from steppe.power import signal as power_signal
from steppe.power.budget import PowerBudget, SiteTerms
from steppe.power.signal import CheckedSignal
from steppe.power.supply import Custom, Steady, TraceClock

SUPPLY_W = 2000.0


def budget_of(signal: LimitSignal, speedup: float = 1.0) -> PowerBudget:
    """Return a budget with a constant supply and the limits of the grid."""
    return PowerBudget(
        supplies=(Steady(SUPPLY_W),),
        limits=(Custom(CheckedSignal(signal, "grid"), "grid"),),
        clock=TraceClock(0.0, speedup),
        terms=SiteTerms(reserve_w=0.0, fallback_w=0.0, stale_s=60.0, pue=1.0, overhead_w=0.0),
    )


def test_the_limits_are_a_signal(start: Process) -> None:
    assert isinstance(LimitSignal(start(), lambda: 0.0), power_signal.Signal)


def test_the_limit_in_force_caps_the_budget_and_is_named(start: Process, world: World) -> None:
    limits, started_s = start(), world.true_s
    budget = budget_of(LimitSignal(limits, lambda: world.true_s - started_s))
    assert budget.at(0.0).site_budget_w == LINK.default_w
    limits.put(world.limit(800.0))
    now = budget.at(0.0)
    assert (now.site_budget_w, now.source, now.stale) == (800.0, "grid", False)


def test_nothing_caps_the_budget_while_nothing_limits_the_site(start: Process) -> None:
    limits = start()
    limits.repeated("openadr")
    now = budget_of(LimitSignal(limits, lambda: 0.0)).at(0.0)
    assert (now.site_budget_w, now.source) == (SUPPLY_W, "constant")


def test_the_forecast_of_the_budget_knows_the_event_that_comes(
    start: Process, world: World
) -> None:
    limits, started_s = start(), world.true_s
    limits.repeated("openadr")
    limits.put_event(world.event(in_s=40.0), 1000.0)
    budget = budget_of(LimitSignal(limits, lambda: world.true_s - started_s))
    world.true_s += 20
    forecast = budget.forecast(20.0, 160.0, 10.0)
    watts = [budget_w for _, budget_w in forecast]
    assert watts == [2000.0, 2000.0, 1000.0, *[100.0] * 10, 100.0, 550.0, 2000.0]


def test_the_forecast_is_asked_in_time_of_the_trace(start: Process, world: World) -> None:
    limits = start()
    limits.repeated("openadr")
    limits.put_event(world.event(in_s=40.0), 1000.0)
    budget = budget_of(LimitSignal(limits, lambda: 0.0, speedup=10.0), speedup=10.0)
    assert budget.gpu_budget_at(39.0) == SUPPLY_W
    assert budget.gpu_budget_at(60.0) == 100.0


def test_the_budget_falls_to_the_default_when_the_link_is_lost(
    start: Process, world: World
) -> None:
    limits, started_s = start(), world.true_s
    limits.put(world.limit(1500.0))
    budget = budget_of(LimitSignal(limits, lambda: world.true_s - started_s))
    assert budget.at(0.0).site_budget_w == 1500.0
    world.true_s += 61
    assert budget.at(61.0).site_budget_w == 300.0
