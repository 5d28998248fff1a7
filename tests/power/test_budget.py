from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from steppe.config import PowerSection, SiteSection
from steppe.power.battery import NO_BATTERY, Battery, Charge
from steppe.power.budget import Budget, PowerBudget, budget_from_config
from steppe.power.settled import Settled
from steppe.power.site_terms import SiteTerms
from steppe.power.supply import Steady, Supply, TraceClock, TraceReplay, WeatherYear
from steppe.power.trace import SupplyTrace

STEADY: dict[str, Any] = {"kind": "constant", "watts": 100.0}
BATTERY: dict[str, Any] = {
    "capacity_wh": 1.0,
    "max_charge_w": 10.0,
    "max_discharge_w": 20.0,
    "charge_efficiency": 0.5,
    "discharge_efficiency": 1.0,
}
PLAIN = SiteTerms(reserve_w=0.0, fallback_w=3.0, stale_s=5.0, pue=1.0, overhead_w=0.0)
MODEST = SiteTerms(reserve_w=5.0, fallback_w=12.0, stale_s=5.0, pue=1.25, overhead_w=10.0)


def budget_of(
    *supplies: Supply,
    speedup: float = 1.0,
    terms: SiteTerms = PLAIN,
    battery: Battery = NO_BATTERY,
    stored_j: float = 0.0,
) -> PowerBudget:
    return PowerBudget(
        supplies=supplies,
        clock=TraceClock(0.0, speedup),
        terms=terms,
        battery=battery,
        stored_j=stored_j,
    )


def configured(
    *supply: dict[str, Any], site: SiteSection | None = None, **power: Any
) -> PowerBudget:
    section = PowerSection.model_validate({"supply": supply, **power})
    return budget_from_config(section, site or SiteSection())


def test_sources_add_up_to_the_budget() -> None:
    budget = configured(STEADY, {"kind": "constant", "watts": 20.0})
    assert budget.at(0.0) == Budget(
        120.0, 0.0, 120.0, 120.0, "constant", stale=False, surplus_w=120.0
    )


def test_the_source_of_a_budget_names_what_offers_power_now() -> None:
    sun = WeatherYear(SupplyTrace((0.0, 10.0), (0.0, 50.0), None), 0.0, "solar")
    budget = budget_of(sun, Steady(10.0), battery=Battery(3600.0, 10.0, 20.0))
    assert budget.at(0.0).source == "constant"
    assert budget.at(5.0).source == "solar+constant"
    budget.resume(5.0, Charge(1.0, 0.0))
    assert budget.at(5.0).source == "solar+constant+battery"
    budget.set_battery(-5.0)
    assert budget.at(5.0).source == "solar+constant"


def test_the_source_of_a_budget_of_zero_names_every_supply() -> None:
    nothing = {"kind": "constant", "watts": 0.0}
    assert configured(nothing, nothing).at(0.0).source == "constant"


def limited(*limits: dict[str, Any], **power: Any) -> PowerBudget:
    """Return a budget of 100 W with limits."""
    return configured(STEADY, limits=limits, **power)


def test_the_lowest_limit_caps_the_site_budget() -> None:
    site = SiteSection(pue=1.25, overhead_w=10.0)
    low, high = {"kind": "constant", "watts": 60.0}, {"kind": "constant", "watts": 80.0}
    budget = limited(high, low, site=site)
    assert budget.at(0.0) == Budget(100.0, 0.0, 60.0, 40.0, "constant", stale=False, surplus_w=40.0)
    assert budget.gpu_budget_at(0.0) == 40.0
    assert budget.forecast(0.0, 1.0, 1.0) == ((0.0, 40.0),)
    assert limited({"kind": "constant", "watts": 200.0}).at(0.0).site_budget_w == 100.0


def test_a_limit_applies_to_supply_and_battery_together() -> None:
    full = BATTERY | {"capacity_wh": 1000.0}
    budget = limited({"kind": "constant", "watts": 110.0}, battery=full)
    assert (budget.at(0.0).battery_w, budget.at(0.0).site_budget_w) == (20.0, 110.0)
    view = budget.battery_view
    assert view is not None
    assert view.forecast(0.0, 1.0, 1.0) == ((0.0, 100.0),)


def test_a_missing_limit_is_the_fallback_and_never_unlimited(tmp_path: Path) -> None:
    absent = {"kind": "signal", "path": str(tmp_path / "absent")}
    now = limited(absent, fallback_w=30.0).at(0.0)
    assert (now.supply_w, now.site_budget_w, now.source) == (100.0, 30.0, "fallback")
    assert limited(absent, fallback_w=300.0).at(0.0).site_budget_w == 100.0


def test_a_fresh_limit_caps_the_fallback_of_a_missing_supply(tmp_path: Path) -> None:
    absent = {"kind": "signal", "path": str(tmp_path / "absent")}
    limit = {"kind": "constant", "watts": 20.0}
    assert configured(absent, limits=[limit], fallback_w=50.0).at(0.0).site_budget_w == 20.0


def test_reserve_overhead_and_pue_come_off_before_the_gpus() -> None:
    site = SiteSection(pue=1.25, overhead_w=10.0)
    assert configured(STEADY, site=site, reserve_w=15.0).at(0.0).gpu_budget_w == pytest.approx(60.0)


def test_the_rest_of_every_node_comes_off_within_the_pue() -> None:
    site = SiteSection(pue=1.25, overhead_w=10.0, node_rest_w=20.0)
    section = PowerSection.model_validate({"supply": [STEADY]})
    budget = budget_from_config(section, site, nodes=2)
    now = budget.at(0.0)
    assert now.gpu_budget_w == pytest.approx(32.0)
    assert now.node_rest_w == 40.0
    assert budget.forecast(0.0, 1.0, 1.0) == ((0.0, now.gpu_budget_w),)
    budget.set_node_rest(15.0)
    assert budget.at(0.0).gpu_budget_w == budget.gpu_budget_at(0.0) == pytest.approx(57.0)
    budget.set_node_rest(1000.0)
    assert budget.at(0.0).gpu_budget_w == 0.0


def test_supply_that_the_nodes_draw_is_not_curtailed() -> None:
    site = SiteSection(node_rest_w=20.0)
    budget = budget_from_config(PowerSection.model_validate({"supply": [STEADY]}), site)
    budget.settle(1.0, draw_w=50.0)
    assert budget.at(1.0).settled.curtailed_w == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"boundary": "node"}, "asked for the boundary node, found 0 W beside the GPUs"),
        ({"node_meter": {"url": "http://p:9090", "query": "w"}}, "while node_meter is stale"),
        (
            {"rapl": True, "node_rest_w": 9.0, "node_meter": {"url": "http://p", "query": "w"}},
            "rapl: asked for it beside node_meter",
        ),
    ],
)
def test_a_boundary_without_a_figure_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        SiteSection.model_validate(values)


def test_a_supply_below_the_overhead_leaves_a_budget_of_zero() -> None:
    assert configured(STEADY, site=SiteSection(overhead_w=150.0)).at(0.0).gpu_budget_w == 0.0


def test_the_battery_adds_what_it_can_sustain_for_an_hour() -> None:
    assert configured(STEADY, battery=BATTERY).at(0.0).battery_w == pytest.approx(0.5)
    full = BATTERY | {"capacity_wh": 1000.0}
    offered = configured(STEADY, battery=full).at(0.0)
    assert offered == Budget(
        100.0,
        20.0,
        120.0,
        120.0,
        "constant+battery",
        stale=False,
        charge=Charge(0.5, 0.0),
        surplus_w=100.0,
    )


def test_a_battery_follows_its_setpoint() -> None:
    budget = configured(STEADY, battery=BATTERY, site=SiteSection(pue=1.25))
    budget.set_battery(8.0)
    assert (budget.at(0.0).battery_w, budget.at(0.0).gpu_budget_w) == (10.0, 88.0)
    budget.set_battery(-4.0)
    assert (budget.at(0.0).battery_w, budget.at(0.0).gpu_budget_w) == (-5.0, 76.0)
    budget.settle(10.0, draw_w=76.0)
    assert budget.stored_j == pytest.approx(1800.0 + 0.5 * 5.0 * 10.0)
    budget.set_battery(None)
    assert budget.at(10.0).battery_w == pytest.approx(0.5, abs=0.01)


def test_a_setpoint_is_limited_to_what_the_battery_can_sustain_for_a_minute() -> None:
    budget = configured(STEADY, battery=BATTERY | {"capacity_wh": 0.2}, speedup=2.0)
    budget.set_battery(1000.0)
    assert budget.at(0.0).battery_w == pytest.approx(360.0 / 120.0)
    budget.set_battery(-1000.0)
    assert budget.at(0.0).battery_w == pytest.approx(-360.0 / (0.5 * 120.0))


def test_the_battery_view_is_in_gpu_watts_and_run_time() -> None:
    site = SiteSection(pue=1.25, overhead_w=10.0)
    view = configured(STEADY, battery=BATTERY, site=site, speedup=60.0).battery_view
    assert view is not None
    assert view.stored_j() == pytest.approx(1800.0 / 75.0)
    assert view.battery == Battery(48.0, 8.0, 16.0, 0.5, 1.0, 60.0)
    assert view.forecast(3.0, 1.5, 1.0) == ((3.0, 72.0), (4.0, 72.0))
    assert configured(STEADY).battery_view is None


def test_surplus_charges_the_battery_in_trace_time_and_the_rest_is_curtailed() -> None:
    budget = configured(STEADY, battery=BATTERY, speedup=60.0)
    budget.settle(2.0, draw_w=70.0)
    assert budget.stored_j == pytest.approx(1800.0 + 0.5 * 10.0 * 120.0)
    assert budget.at(2.0).settled.curtailed_w == pytest.approx(20.0)


def test_bought_power_charges_the_battery_within_the_limit_only() -> None:
    limits = [{"kind": "constant", "watts": 60.0}]
    bought = configured(STEADY, battery=BATTERY, limits=limits)
    bought.settle(60.0, 56.0)
    assert bought.at(60.0).settled.battery_w == pytest.approx(-4.0)
    assert bought.at(60.0).settled.sources_w == {"grid": pytest.approx(60.0)}
    own = budget_of(
        WeatherYear(SupplyTrace((0.0, 1e9), (100.0, 100.0), None), 0.0, "wind"),
        battery=Battery(3600.0, 10.0, 20.0),
    )
    own.join(AtMost(60.0))
    own.settle(60.0, 56.0)
    assert own.at(60.0).settled.battery_w == pytest.approx(-10.0), "wind is not taken from the grid"


class AtMost:
    """A limit from outside."""

    def __init__(self, watts: float) -> None:
        self.watts = watts

    def limit_at(self, at_s: float) -> tuple[float, str]:
        return self.watts, "openadr/site"


def test_a_deficit_discharges_the_battery() -> None:
    budget = configured(STEADY, battery=BATTERY)
    budget.settle(10.0, draw_w=115.0)
    assert budget.stored_j == pytest.approx(1800.0 - 150.0)
    assert budget.at(10.0).charge == Charge(1650.0 / 3600.0, 15.0)
    assert budget.at(10.0).settled.curtailed_w == 0.0


def test_a_battery_gives_nothing_once_the_supply_is_unknown() -> None:
    trace = TraceReplay(SupplyTrace((0.0, 10.0), (100.0, 100.0), None), 0.0)
    budget = budget_of(trace, battery=Battery(3600.0, 10.0, 20.0), stored_j=1800.0)
    budget.settle(10.0, draw_w=115.0)
    budget.settle(20.0, draw_w=115.0)
    assert budget.at(20.0).charge == Charge(1650.0 / 3600.0, 0.0)


def test_the_reserve_is_neither_stored_nor_curtailed() -> None:
    budget = configured(STEADY, battery=BATTERY, reserve_w=30.0)
    budget.settle(10.0, draw_w=70.0)
    assert (budget.stored_j, budget.at(10.0).settled.curtailed_w) == (1800.0, 0.0)


def test_a_deficit_beyond_the_reserve_comes_from_the_battery() -> None:
    budget = configured(STEADY, battery=BATTERY, reserve_w=30.0)
    budget.set_battery(12.0)
    now = budget.at(0.0)
    assert (now.battery_w, now.gpu_budget_w) == (12.0, 82.0)
    budget.settle(10.0, now.gpu_budget_w)
    assert budget.stored_j == pytest.approx(1800.0 - 12.0 * 10.0)
    assert budget.at(10.0).settled.curtailed_w == 0.0


def test_a_reserve_is_kept_back_from_the_supply_and_not_from_the_battery() -> None:
    budget = configured(STEADY, battery=BATTERY, reserve_w=150.0)
    budget.set_battery(12.0)
    assert budget.at(0.0).gpu_budget_w == 12.0


def test_settling_the_same_moment_twice_changes_nothing() -> None:
    budget = configured(STEADY, battery=BATTERY)
    budget.settle(10.0, draw_w=50.0)
    stored_j, now = budget.stored_j, budget.at(10.0)
    budget.settle(10.0, draw_w=0.0)
    assert (budget.stored_j, budget.at(10.0)) == (stored_j, now)


def test_a_resumed_budget_keeps_the_charge_and_settles_from_then_on() -> None:
    budget = configured(STEADY, battery=BATTERY)
    budget.resume(14_400.0, Charge(share=0.25, power_w=3.0))
    assert (budget.stored_j, budget.at(14_410.0).charge) == (900.0, Charge(0.25, 0.0))
    budget.settle(14_410.0, draw_w=105.0)
    assert budget.stored_j == pytest.approx(900.0 - 50.0)


def test_a_stale_signal_falls_back_and_the_battery_is_idle(tmp_path: Path) -> None:
    path = tmp_path / "watts"
    path.write_text("80\n")
    os.utime(path, (1000.0, 1000.0))
    wall = [1000.0]
    signal = {"kind": "signal", "path": str(path)}
    power = PowerSection.model_validate(
        {"supply": [signal], "stale_s": 30.0, "fallback_w": 25.0, "battery": BATTERY}
    )
    budget = budget_from_config(power, SiteSection(overhead_w=5.0), wall_s=lambda: wall[0])
    assert budget.at(0.0) == Budget(
        80.0,
        0.5,
        80.5,
        75.5,
        "signal+battery",
        stale=False,
        charge=Charge(0.5, 0.0),
        surplus_w=75.0,
    )
    wall[0] = 1031.0
    budget.settle(31.0, draw_w=0.0)
    assert budget.at(31.0) == Budget(
        25.0,
        0.0,
        25.0,
        20.0,
        "fallback",
        stale=True,
        charge=Charge(0.5, 0.0),
        settled=Settled(site_w=5.0),
    )
    assert budget.stored_j == 1800.0


def test_a_missing_signal_is_never_unlimited(tmp_path: Path) -> None:
    budget = configured(STEADY, {"kind": "signal", "path": str(tmp_path / "absent")})
    assert budget.at(0.0) == Budget(0.0, 0.0, 0.0, 0.0, "fallback", stale=True)


def test_a_trace_that_ends_falls_back(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("time_utc,p_kw\n0,0.05\n60,0.05\n")
    trace = {"kind": "trace", "path": str(path)}
    budget = configured(trace, stale_s=10.0, fallback_w=7.0)
    assert budget.at(70.0) == Budget(50.0, 0.0, 50.0, 50.0, "trace", stale=False, surplus_w=50.0)
    assert budget.at(71.0) == Budget(7.0, 0.0, 7.0, 7.0, "fallback", stale=True)


def test_a_budget_ends_with_its_first_trace_to_end(
    tmp_path: Path,
) -> None:
    for name, end_s in (("short.csv", 60), ("long.csv", 600)):
        (tmp_path / name).write_text(f"time_utc,p_kw\n0,0.05\n{end_s},0.05\n")
    traces = [{"kind": "trace", "path": str(tmp_path / f"{n}.csv")} for n in ("long", "short")]
    assert configured(*traces, STEADY, speedup=3).ends_s == 20.0
    assert configured(STEADY).ends_s == math.inf


def test_the_forecast_of_a_trace_is_its_future() -> None:
    ramp = TraceReplay(SupplyTrace((0.0, 100.0), (0.0, 100.0), None), 0.0)
    budget = budget_of(ramp)
    ahead = budget.forecast(10.0, horizon_s=100.0, step_s=25.0)
    assert ahead == ((10.0, 10.0), (35.0, 35.0), (60.0, 60.0), (85.0, 85.0))
    assert budget.forecast(110.0, horizon_s=1.0, step_s=1.0) == ((110.0, 3.0),)


@pytest.mark.parametrize("watts", [-1.0, float("nan"), float("inf")])
def test_negative_and_infinite_watts_are_refused_by_the_config(watts: float) -> None:
    with pytest.raises(ValidationError, match="watts"):
        configured({"kind": "constant", "watts": watts})


def test_a_day_of_wind_and_sun_varies_between_low_and_high() -> None:
    budget = configured(
        {"kind": "wind", "rated_w": 90.0, "station": "sand_point"},
        {"kind": "solar", "rated_w": 130.0, "station": "greensboro"},
        start="2001-09-05T09:00:00",
        speedup=360.0,
    )
    day_w = [budget.at(quarter / 4).gpu_budget_w for quarter in range(960)]
    assert 85.0 < sum(day_w) / len(day_w) < 95.0
    assert min(day_w) < 10.0
    assert max(day_w) > 140.0


@given(
    watts=st.lists(st.floats(0.0, 500.0), min_size=2, max_size=8),
    draws_w=st.lists(st.floats(0.0, 500.0), min_size=1, max_size=20),
    stored_share=st.floats(0.0, 1.0),
    setpoint_w=st.none() | st.floats(-100.0, 100.0),
)
def test_battery_and_budget_stay_within_their_limits(
    watts: list[float], draws_w: list[float], stored_share: float, setpoint_w: float | None
) -> None:
    trace = SupplyTrace(tuple(60.0 * row for row in range(len(watts))), tuple(watts), None)
    battery = Battery(2000.0, 30.0, 40.0, 0.9, 0.9, 300.0)
    stored_j = stored_share * battery.capacity_j
    supplies = TraceReplay(trace, 0.0), Steady(1.0)
    budget = budget_of(*supplies, speedup=10.0, terms=MODEST, battery=battery, stored_j=stored_j)
    budget.set_battery(setpoint_w)
    for tick, draw_w in enumerate(draws_w, start=1):
        budget.settle(float(tick), draw_w)
        now = budget.at(float(tick))
        assert 0.0 <= budget.stored_j <= battery.capacity_j
        assert 0.0 <= now.settled.curtailed_w <= 501.0
        assert -battery.max_charge_w <= now.battery_w <= battery.max_discharge_w
        assert MODEST.site_w(now.gpu_budget_w) <= max(10.0, now.supply_w + now.battery_w) + 1e-9
        assert budget.forecast(float(tick), 1.0, 1.0) == ((float(tick), now.gpu_budget_w),)


@given(
    supply_w=st.floats(0.0, 200.0),
    reserve_w=st.floats(0.0, 300.0),
    overhead_w=st.floats(0.0, 50.0),
    setpoint_w=st.none() | st.floats(-50.0, 50.0),
)
def test_a_forecast_is_right_if_the_gpus_draw_all_of_it(
    supply_w: float, reserve_w: float, overhead_w: float, setpoint_w: float | None
) -> None:
    budget = budget_of(
        Steady(supply_w),
        speedup=10.0,
        terms=SiteTerms(reserve_w, fallback_w=0.0, stale_s=1.0, pue=1.25, overhead_w=overhead_w),
        battery=Battery(20_000.0, 30.0, 40.0, 0.9, 0.9, 300.0),
        stored_j=10_000.0,
    )
    budget.set_battery(setpoint_w)
    for at_s, ahead_w in budget.forecast(0.0, horizon_s=100.0, step_s=10.0):
        assert budget.at(at_s).gpu_budget_w == pytest.approx(ahead_w)
        budget.settle(at_s + 10.0, ahead_w)
        budget.set_battery(None)


@given(supply_w=st.floats(0.0, 200.0), draw_w=st.floats(0.0, 200.0), dt_s=st.floats(0.01, 100.0))
def test_supply_is_drawn_stored_or_curtailed_to_the_last_joule(
    supply_w: float, draw_w: float, dt_s: float
) -> None:
    battery = Battery(5000.0, 30.0, 40.0)
    budget = budget_of(Steady(supply_w), battery=battery, stored_j=2500.0)
    budget.settle(dt_s, draw_w)
    stored_j, curtailed_w = budget.stored_j - 2500.0, budget.at(dt_s).settled.curtailed_w
    surplus_j = (supply_w - draw_w) * dt_s
    if surplus_j >= 0.0:
        assert stored_j >= 0.0
        assert stored_j + curtailed_w * dt_s == pytest.approx(surplus_j, abs=1e-6)
    else:
        assert curtailed_w == 0.0
        assert surplus_j - 1e-6 <= stored_j <= 0.0


def test_only_supply_that_is_not_bought_is_surplus() -> None:
    wind = TraceReplay(SupplyTrace((0.0, 100.0), (40.0, 40.0), None), 0.0)
    grid = TraceReplay(SupplyTrace((0.0, 100.0), (25.0, 25.0), None), 0.0, firm=True)
    budget = budget_of(wind, grid, Steady(10.0), terms=MODEST)
    whole_w = budget.at(0.0).gpu_budget_w
    assert whole_w == pytest.approx((75.0 - 5.0 - 10.0) / 1.25)
    # Bought power covers reserve and overhead first.
    assert budget.surplus(0.0, 20.0, 10.0) == ((0.0, 32.0), (10.0, 32.0))
    assert budget.has_surplus


def test_what_bought_power_does_not_cover_is_deducted_from_the_surplus() -> None:
    wind = TraceReplay(SupplyTrace((0.0, 100.0), (40.0, 40.0), None), 0.0)
    budget = budget_of(wind, terms=MODEST)
    assert budget.surplus(0.0, 1.0, 1.0) == ((0.0, budget.at(0.0).gpu_budget_w),)


def test_without_another_supply_bought_power_counts_as_surplus() -> None:
    budget = budget_of(Steady(100.0))
    assert not budget.has_surplus
    assert budget.surplus(0.0, 1.0, 1.0) == ((0.0, 100.0),)


def test_a_stale_supply_has_no_surplus() -> None:
    wind = TraceReplay(SupplyTrace((0.0, 1.0), (40.0, 40.0), None), 0.0)
    budget = budget_of(wind, Steady(10.0))
    assert budget.surplus(60.0, 1.0, 1.0) == ((60.0, 0.0),)


def test_limits_ahead_are_those_of_the_gpus_and_there_are_none_without_a_limit() -> None:
    fall = TraceReplay(SupplyTrace((0.0, 10.0, 10.1, 99.0), (90.0, 90.0, 60.0, 60.0), None), 0.0)
    budget = PowerBudget(
        supplies=(Steady(100.0),), limits=(fall,), clock=TraceClock(0.0, 1.0), terms=MODEST
    )
    assert budget.limits_ahead(0.0, 20.0, 10.0) == ((10.0, 64.0), (20.0, 40.0))
    assert budget_of(Steady(100.0)).limits_ahead(0.0, 20.0, 10.0) == ()
