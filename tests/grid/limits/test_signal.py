"""The limits of the grid in the power budget."""

from __future__ import annotations

from tests.grid.limits.world import LINK, Process, World

from steppe.grid.limits.limits import Limits
from steppe.grid.limits.signal import LimitSignal
from steppe.power.budget import PowerBudget
from steppe.power.site_terms import SiteTerms
from steppe.power.source_state import SourceState
from steppe.power.supply import Steady, TraceClock

SUPPLY_W = 2000.0


def budget_of(limits: Limits, world: World, speedup: float = 1.0) -> PowerBudget:
    """Return a budget with a constant supply and the limits of the grid, from now on."""
    began_s = world.true_s
    budget = plain_budget(SUPPLY_W, speedup)
    budget.join(LimitSignal(limits, lambda: world.true_s - began_s))
    return budget


def plain_budget(supply_w: float, speedup: float = 1.0) -> PowerBudget:
    """Return a budget with a constant supply."""
    return PowerBudget(
        supplies=(Steady(supply_w),),
        clock=TraceClock(0.0, speedup),
        terms=SiteTerms(reserve_w=0.0, fallback_w=0.0, stale_s=60.0, pue=1.0, overhead_w=0.0),
    )


def test_the_limit_in_force_caps_the_budget_and_gives_it_its_name(
    start: Process, world: World
) -> None:
    limits = start()
    budget = budget_of(limits, world)
    now = budget.at(0.0)
    assert (now.site_budget_w, now.source) == (LINK.default_w, "openadr/default")
    limits.put(world.limit(800.0))
    now = budget.at(0.0)
    assert (now.site_budget_w, now.source, now.stale) == (800.0, "openadr/site", False)
    assert budget.sources(0.0)[-1] == SourceState("limit", "openadr/site", "fresh", 800.0, 0.0)


def test_a_limit_above_the_supply_sets_no_budget(start: Process, world: World) -> None:
    limits = start()
    limits.put(world.limit(3000.0))
    now = budget_of(limits, world).at(0.0)
    assert (now.site_budget_w, now.source) == (SUPPLY_W, "constant")


def test_nothing_caps_the_budget_while_nothing_limits_the_site(
    start: Process, world: World
) -> None:
    limits = start()
    limits.repeated("openadr")
    budget = budget_of(limits, world)
    now = budget.at(0.0)
    assert (now.site_budget_w, now.source) == (SUPPLY_W, "constant")
    assert [source.kind for source in budget.sources(0.0)] == ["supply"]


def test_a_changed_supply_keeps_the_limit(start: Process, world: World) -> None:
    limits = start()
    limits.put(world.limit(800.0))
    budget = budget_of(limits, world)
    budget.take_over(plain_budget(5000.0))
    assert budget.at(0.0).site_budget_w == 800.0


def test_the_most_that_the_gpus_may_ever_draw_is_that_of_the_supply(
    start: Process, world: World
) -> None:
    assert budget_of(start(), world).most_gpu_w == SUPPLY_W


def test_the_forecast_of_the_budget_knows_the_event_that_comes(
    start: Process, world: World
) -> None:
    limits = start()
    limits.repeated("openadr")
    limits.put_event(world.event(in_s=40.0), 1000.0)
    budget = budget_of(limits, world)
    world.true_s += 20
    forecast = budget.forecast(20.0, 160.0, 10.0)
    watts = [budget_w for _, budget_w in forecast]
    assert watts == [2000.0, 2000.0, 1000.0, *[100.0] * 10, 100.0, 550.0, 2000.0]


def test_a_limit_is_asked_in_run_time_whatever_the_trace_does(start: Process, world: World) -> None:
    limits = start()
    limits.repeated("openadr")
    limits.put_event(world.event(in_s=40.0), 1000.0)
    budget = budget_of(limits, world, speedup=10.0)
    assert budget.gpu_budget_at(39.0) == SUPPLY_W
    assert budget.gpu_budget_at(60.0) == 100.0


def test_a_time_that_has_passed_has_the_limit_of_now(start: Process, world: World) -> None:
    limits = start()
    limits.put(world.limit(800.0))
    budget = budget_of(limits, world)
    world.true_s += 10
    limits.put(world.limit(300.0))
    assert budget.gpu_budget_at(0.0) == 300.0


def test_the_budget_falls_to_the_default_when_the_link_is_lost(
    start: Process, world: World
) -> None:
    limits = start()
    limits.put(world.limit(1500.0))
    budget = budget_of(limits, world)
    assert budget.at(0.0).site_budget_w == 1500.0
    world.true_s += 61
    assert budget.at(61.0).site_budget_w == 300.0
