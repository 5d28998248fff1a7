from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import modelled_frontier

from steppe.errors import InfeasibleError, UsageError
from steppe.grid.plan.solve import plan_markets
from steppe.grid.plan.terms import Edge, Outlook, Reserve, Site, Work, edges_of, per_mwh
from steppe.power.battery import NO_BATTERY, Battery

TOKEN = per_mwh(1000.0)
"""Worth of a token that can wait: 200 per MWh on the first edge, 100 per MWh on the second."""
FEE = per_mwh(5.0)


def outlook_of(prices_mwh: list[float], work: tuple[Work, ...] = (), **more: object) -> Outlook:
    buy = [per_mwh(price) for price in prices_mwh]
    steps = len(buy)
    plain = Outlook(buy, [p - FEE for p in buy], [0.0] * steps, [0.0] * steps, work)
    return replace(plain, **more)  # type: ignore[arg-type]


def reserve_of(price_mwh: float, steps: int, *, called_share: float = 0.0) -> Reserve:
    return Reserve([per_mwh(price_mwh)] * steps, [0.0] * steps, called_share, 900.0)


def test_work_that_can_wait_runs_where_energy_is_cheapest(site: Site) -> None:
    site = replace(site, battery=NO_BATTERY)
    work = Work(tokens=9e7, due_step=3, token_value=TOKEN)
    plan = plan_markets(site, outlook_of([90.0, 80.0, 20.0, 70.0], (work,)))
    assert plan.deferred_tps == pytest.approx((0.0, 0.0, 1e5, 0.0), abs=1.0)
    assert plan.draw_w == pytest.approx((1e5, 1e5, 6e5, 1e5))
    assert plan.grid_w == pytest.approx(plan.draw_w)


def test_work_runs_before_it_is_due_even_if_energy_is_cheaper_later(site: Site) -> None:
    work = Work(tokens=9e7, due_step=0, token_value=TOKEN)
    plan = plan_markets(site, outlook_of([90.0, 20.0], (work,)))
    assert plan.deferred_tps[0] == pytest.approx(1e5)
    assert sum(plan.late_tokens) == pytest.approx(0.0, abs=1.0)


def test_work_that_is_worth_less_than_its_energy_is_given_up(site: Site) -> None:
    work = Work(tokens=9e7, due_step=0, token_value=TOKEN)
    plan = plan_markets(replace(site, battery=NO_BATTERY), outlook_of([205.0], (work,)))
    assert plan.late_tokens == pytest.approx((9e7,))
    assert plan.draw_w == pytest.approx((site.floor_w,))


def test_work_left_at_the_end_runs_now_only_where_energy_is_cheaper_than_later(site: Site) -> None:
    site, work = replace(site, battery=NO_BATTERY), (Work(9e7, 99, TOKEN),)
    assert plan_markets(site, outlook_of([61.0], work)).deferred_tps[0] == pytest.approx(0, abs=1)
    assert plan_markets(site, outlook_of([58.0], work)).deferred_tps[0] == pytest.approx(1e5)


def test_the_battery_buys_cheap_and_serves_dear_steps(site: Site) -> None:
    plan = plan_markets(site, outlook_of([10.0, 200.0]))
    assert plan.charge_w[0] == pytest.approx(5e5)
    assert plan.discharge_w[1] >= 1e5 - 1.0
    assert plan.grid_w[1] == pytest.approx(0.0, abs=1.0)


def test_an_intraday_plan_sells_back_what_wind_brings_beyond_the_position(site: Site) -> None:
    site = replace(site, battery=NO_BATTERY)
    outlook = outlook_of([60.0], renewable_w=[3e4], position_w=[1e5])
    plan = plan_markets(site, outlook)
    assert plan.traded_w == pytest.approx((-3e4,))
    assert plan.grid_w == pytest.approx((7e4,))


def test_reserve_downwards_is_held_by_work_that_can_stop_not_by_firm_work(site: Site) -> None:
    site = replace(site, battery=NO_BATTERY)
    work = (Work(9e7, 0, TOKEN),)
    firm = outlook_of([60.0], firm_tps=[1e5], down=reserve_of(50.0, 1))
    assert plan_markets(site, firm).down_w == pytest.approx((0.0,), abs=1.0)
    deferred = outlook_of([60.0], work, down=reserve_of(50.0, 1))
    assert plan_markets(site, deferred).down_w == pytest.approx((5e5,))


def test_reserve_upwards_needs_work_that_is_there(site: Site) -> None:
    site = replace(site, battery=NO_BATTERY)
    nothing = outlook_of([70.0], up=reserve_of(5.0, 1))
    assert plan_markets(site, nothing).up_w == pytest.approx((0.0,), abs=1.0)
    waits = outlook_of([70.0], (Work(9e7, 9, TOKEN),), up=reserve_of(5.0, 1))
    assert plan_markets(site, waits).up_w == pytest.approx((5e5,))


def test_the_battery_holds_reserve_only_for_a_whole_call(site: Site) -> None:
    stored_j = 900.0 * 1e5 / 0.95
    outlook = outlook_of([60.0], down=reserve_of(9.0, 1), stored_j=stored_j)
    plan = plan_markets(replace(site, export_limit_w=1e6), outlook)
    assert plan.down_w[0] <= 1e5 + plan.charge_w[0] + 1.0
    assert plan.down_w[0] == pytest.approx(1e5, rel=1e-3)


def test_reserve_that_is_sold_stays_held_and_what_cannot_be_is_named(site: Site) -> None:
    site = replace(site, battery=NO_BATTERY)
    sold = replace(reserve_of(0.0, 1), sold_w=[3e5], open=False)
    work = (Work(4.5e7, 9, TOKEN),)
    plan = plan_markets(site, outlook_of([90.0], work, down=sold))
    assert plan.draw_w[0] >= site.floor_w + 2.5e5 - 1.0
    assert plan.down_w[0] + plan.missed_w[0] == pytest.approx(3e5)


def test_calls_cost_the_tokens_of_the_best_edge_on_average(site: Site) -> None:
    site, work = replace(site, battery=NO_BATTERY), (Work(1.4e5 * 900, 0, TOKEN),)
    called = outlook_of([60.0], work, down=reserve_of(90.0, 1, called_share=0.2))
    plan = plan_markets(site, called)
    assert plan.draw_w == pytest.approx((1e6,))
    assert plan.down_w == pytest.approx((9e5,))
    assert plan.deferred_tps == pytest.approx((1.4e5 - 0.2 * 9e5 * 0.2,))


def test_limits_name_each_change_of_the_draw(site: Site) -> None:
    work = Work(tokens=9e7, due_step=3, token_value=TOKEN)
    plan = plan_markets(
        replace(site, battery=NO_BATTERY), outlook_of([90.0, 80.0, 20.0, 70.0], (work,))
    )
    assert plan.limits_w(1000.0) == ((1000.0, 1e5), (2800.0, 6e5), (3700.0, 1e5))


def test_a_series_of_another_length_is_refused(site: Site) -> None:
    with pytest.raises(UsageError, match="asked for 2 steps of firm_tps, found 1"):
        plan_markets(site, outlook_of([1.0, 2.0], firm_tps=[0.0]))


def test_a_price_to_sell_above_the_price_to_buy_is_refused(site: Site) -> None:
    with pytest.raises(UsageError, match="price to sell of at most"):
        plan_markets(site, outlook_of([1.0], sell_price=[1.0]))


def test_a_position_beyond_the_connection_that_cannot_be_sold_is_infeasible(site: Site) -> None:
    with pytest.raises(InfeasibleError, match="limits of the grid connection"):
        plan_markets(replace(site, import_limit_w=1e4), outlook_of([60.0]))


def test_the_output_of_a_draw_is_the_reverse_of_the_draw_of_an_output(site: Site) -> None:
    for output_tps in (0.0, 5e4, 1e5, 1.2e5):
        assert site.output_of(site.draw_of(output_tps)) == pytest.approx(output_tps)
    assert site.output_of(9e9) == pytest.approx(1.4e5)


def test_the_edges_of_a_fleet_fall_in_tokens_per_joule() -> None:
    floor_w, edges = edges_of(modelled_frontier(), 10)
    rates = [edge.tokens_per_j for edge in edges]
    assert floor_w > 0
    assert 1 < len(edges) <= 4
    assert rates == sorted(rates, reverse=True)


@st.composite
def outlooks(draw: st.DrawFn) -> Outlook:
    steps = draw(st.integers(1, 8))
    prices = draw(st.lists(st.floats(-50, 300), min_size=steps, max_size=steps))
    arrives, tokens = draw(st.integers(0, steps - 1)), draw(st.floats(0, 5e8))
    works = (
        Work(tokens, draw(st.integers(arrives, steps + 3)), TOKEN, arrives),
        Work(draw(st.floats(0, 5e8)), steps - 1, TOKEN / 3),
    )
    wind_w = draw(st.lists(st.floats(0, 2e6), min_size=steps, max_size=steps))
    return outlook_of(
        prices,
        works,
        renewable_w=wind_w,
        firm_tps=[draw(st.floats(0, 1.4e5))] * steps,
        stored_j=draw(st.floats(0, 1)) * 3.6e9,
        down=reserve_of(draw(st.floats(0, 30)), steps, called_share=0.1),
        up=reserve_of(draw(st.floats(0, 30)), steps),
    )


@settings(deadline=None, max_examples=40, derandomize=True)
@given(outlooks())
def test_every_plan_balances_and_keeps_all_limits(outlook: Outlook) -> None:
    battery = Battery(3.6e9, 5e5, 5e5, 0.95, 0.95)
    edges = (Edge(5e5, 1e5), Edge(4e5, 4e4))
    site = Site(1e5, edges, 2e6, 1e-4, per_mwh(60.0), battery, export_limit_w=1e6)
    plan = plan_markets(site, outlook)
    grid, draw, down, up = (np.array(x) for x in (plan.grid_w, plan.draw_w, plan.down_w, plan.up_w))
    moved = np.array(plan.charge_w) - np.array(plan.discharge_w)
    used = np.array(outlook.renewable_w) - np.array(plan.spilled_w)
    assert draw + moved == pytest.approx(used + grid, abs=10.0)
    assert (grid + up <= site.import_limit_w + 10.0).all()
    assert (grid - down >= -site.export_limit_w - 10.0).all()
    assert (draw <= site.most_w + 10.0).all()
    assert all(-1.0 <= j <= battery.capacity_j * (1 + 1e-6) for j in plan.stored_j)
    done = sum(plan.deferred_tps) * site.step_s + sum(plan.late_tokens)
    assert done <= sum(work.tokens for work in outlook.work) * (1 + 1e-6) + 1e3
