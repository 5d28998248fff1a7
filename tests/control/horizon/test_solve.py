from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.control.horizon.inputs import Deferrable, HorizonInputs, HorizonPlan, HorizonTerms
from steppe.control.horizon.solve import plan_horizon
from steppe.frontier.pareto import Frontier
from steppe.power.battery import Battery

STEP_S, REPLICAS = 600.0, 4
battery = Battery(3.6e5, 100.0, 80.0, 0.9, 0.95)


def terms_of(frontier: Frontier, store: Battery = battery) -> HorizonTerms:
    return HorizonTerms(frontier, REPLICAS, STEP_S, store)


def served(plan: HorizonPlan) -> float:
    return sum(plan.firm_tps) * STEP_S


@st.composite
def expectations(draw: st.DrawFn) -> HorizonInputs:
    supply_w = draw(st.lists(st.floats(0, 400), min_size=1, max_size=12))
    steps, tokens = len(supply_w), draw(st.floats(0, 1e6))
    comes, more = draw(st.integers(0, steps - 1)), draw(st.floats(0, 1e6))
    return HorizonInputs(
        supply_w,
        [draw(st.floats(0, 1000))] * steps,
        (Deferrable(steps // 2, tokens), Deferrable(min(comes + 2, steps - 1), more, comes)),
        draw(st.floats(0, 1)) * battery.capacity_j,
    )


@settings(deadline=None)
@given(expectations())
def test_energy_balances_and_the_battery_is_never_below_empty_or_above_full(
    frontier: Frontier, inputs: HorizonInputs
) -> None:
    plan = plan_horizon(terms_of(frontier), inputs)
    supply_w, tokens = np.array(inputs.supply_w), sum(work.tokens for work in inputs.work)
    draw, charged, given_w = map(np.array, (plan.draw_w, plan.charge_w, plan.discharge_w))
    assert (draw + charged <= supply_w + given_w + plan.short_w + 1e-4).all()
    before = np.array([inputs.stored_j, *plan.stored_j[:-1]])
    moved = (battery.charge_efficiency * charged - given_w / battery.discharge_efficiency) * STEP_S
    assert np.array(plan.stored_j) == pytest.approx(before + moved, abs=1.0)
    assert all(-1e-6 <= stored <= battery.capacity_j + 1e-3 for stored in plan.stored_j)
    assert all(0 <= n <= REPLICAS + 1e-6 for n in plan.awake)
    assert all(tps <= inputs.demand_tps[0] + 1e-6 for tps in plan.firm_tps)
    assert sum(plan.deferred_tps) * STEP_S <= tokens + 1.0


@settings(deadline=None)
@given(expectations())
def test_deferrable_work_runs_after_it_comes_and_what_is_not_late_before_it_is_due(
    frontier: Frontier, inputs: HorizonInputs
) -> None:
    plan, steps = plan_horizon(terms_of(frontier), inputs), range(len(inputs.supply_w))
    ran = np.cumsum(plan.deferred_tps) * STEP_S
    come = [sum(one.tokens for one in inputs.work if one.from_step <= step) for step in steps]
    due = [sum(one.tokens for one in inputs.work if one.due_step <= step) for step in steps]
    assert (ran <= np.array(come) + 1.0).all()
    assert (ran >= np.array(due) - plan.late_tokens - 1.0).all()


def test_only_a_sleeping_fleet_that_cannot_be_fed_is_short(frontier: Frontier) -> None:
    floor_w = REPLICAS * frontier.asleep_w
    inputs = HorizonInputs([floor_w - 5.0, floor_w], [100.0, 100.0])
    plan = plan_horizon(terms_of(frontier), inputs)
    assert plan.short_w == pytest.approx((5.0, 0.0), abs=1e-6)
    assert plan.firm_tps == pytest.approx((0.0, 0.0), abs=1e-6)


@pytest.mark.parametrize("stored_j", [500.0, 1500.0, 4000.0])
def test_what_is_short_is_short_as_late_as_can_be(frontier: Frontier, stored_j: float) -> None:
    battery = Battery(4320.0, 160.0, 160.0, 0.95, 0.95)
    inputs = HorizonInputs([0.0] * 15, [0.0] * 15, (), stored_j)
    short_w = plan_horizon(terms_of(frontier, store=battery), inputs).short_w
    assert list(short_w) == sorted(short_w)
    assert short_w[0] < short_w[-1]


def test_a_surplus_before_a_lull_is_stored_for_it(frontier: Frontier) -> None:
    demand_tps = [frontier.full.output_tps] * 4
    supply_w = [300.0, 300.0, 50.0, 50.0]
    full = Battery(1e6, 200.0, 200.0)
    none = plan_horizon(
        terms_of(frontier, store=Battery(0, 0, 0)), HorizonInputs(supply_w, demand_tps)
    )
    some = plan_horizon(terms_of(frontier, store=full), HorizonInputs(supply_w, demand_tps))
    assert max(some.charge_w[:2]) > 0
    assert served(some) > 1.5 * served(none)


def test_deferrable_work_waits_for_the_sun_and_meets_its_time(frontier: Frontier) -> None:
    lull_w, sun_w = REPLICAS * frontier.asleep_w, REPLICAS * frontier.full.draw_w
    tokens = 0.5 * REPLICAS * frontier.full.output_tps * STEP_S
    terms = terms_of(frontier, store=Battery(0, 0, 0))
    inputs = HorizonInputs([lull_w, lull_w, sun_w, lull_w], [0.0] * 4, (Deferrable(3, tokens),))
    plan = plan_horizon(terms, inputs)
    assert plan.deferred_tps[2] * STEP_S == pytest.approx(tokens)
    assert plan.late_tokens == pytest.approx(0.0, abs=1e-3)
    late = plan_horizon(terms, HorizonInputs(inputs.supply_w, [0.0] * 4, (Deferrable(1, tokens),)))
    assert late.late_tokens == pytest.approx(tokens)


def test_deferrable_work_runs_as_soon_as_there_are_watts(frontier: Frontier) -> None:
    tokens = 0.4 * REPLICAS * frontier.full.output_tps * STEP_S
    terms, sun_w = terms_of(frontier, store=Battery(0, 0, 0)), REPLICAS * frontier.full.draw_w
    plan = plan_horizon(terms, HorizonInputs([sun_w] * 4, [0.0] * 4, (Deferrable(4, tokens),)))
    assert plan.deferred_tps[0] * STEP_S == pytest.approx(tokens)
