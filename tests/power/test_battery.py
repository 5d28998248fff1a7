from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.config import BatterySection
from steppe.power.battery import NO_BATTERY, Battery, battery_from_config

BATTERY = Battery(
    capacity_j=3600.0,
    max_charge_w=10.0,
    max_discharge_w=20.0,
    charge_efficiency=0.9,
    discharge_efficiency=0.8,
    sustain_s=100.0,
)
steps = st.lists(st.tuples(st.booleans(), st.floats(0.0, 50.0), st.floats(0.0, 500.0)), max_size=30)


def test_charging_stores_the_energy_less_losses() -> None:
    step = BATTERY.charge(0.0, 5.0, 100.0)
    assert step.power_w == 5.0
    assert step.stored_j == pytest.approx(450.0)


def test_discharging_losses_come_from_the_stored_energy() -> None:
    step = BATTERY.discharge(1000.0, 4.0, 100.0)
    assert step.power_w == 4.0
    assert step.stored_j == pytest.approx(500.0)


def test_the_power_limits_bind() -> None:
    assert BATTERY.charge(0.0, 50.0, 1.0).power_w == 10.0
    assert BATTERY.discharge(3600.0, 50.0, 1.0).power_w == 20.0


def test_a_full_battery_takes_only_what_fits_and_an_empty_one_gives_nothing() -> None:
    assert BATTERY.charge(3591.0, 10.0, 10.0).power_w == pytest.approx(1.0)
    assert BATTERY.charge(3600.0, 10.0, 10.0).power_w == 0.0
    assert BATTERY.discharge(0.0, 10.0, 10.0).power_w == 0.0


def test_the_sustainable_power_falls_with_the_charge() -> None:
    assert BATTERY.offered_w(3600.0) == 20.0
    assert BATTERY.offered_w(1000.0) == pytest.approx(8.0)
    assert BATTERY.offered_w(0.0) == 0.0


def test_a_battery_without_capacity_takes_and_gives_nothing() -> None:
    assert NO_BATTERY.charge(0.0, 10.0, 1.0).power_w == 0.0
    assert NO_BATTERY.discharge(0.0, 10.0, 1.0).power_w == 0.0
    assert NO_BATTERY.offered_w(0.0) == 0.0


def test_a_configured_battery_starts_at_its_share() -> None:
    section = BatterySection(capacity_wh=2.0, max_charge_w=1.0, max_discharge_w=3.0)
    battery, stored_j = battery_from_config(section)
    assert (battery.capacity_j, battery.max_discharge_w) == (7200.0, 3.0)
    assert stored_j == 3600.0


@given(stored_share=st.floats(0.0, 1.0), steps=steps)
def test_energy_is_conserved_and_no_limit_is_passed(
    stored_share: float, steps: list[tuple[bool, float, float]]
) -> None:
    first_j = stored_j = stored_share * BATTERY.capacity_j
    taken_j = given_j = 0.0
    for charging, power_w, dt_s in steps:
        if charging:
            step = BATTERY.charge(stored_j, power_w, dt_s)
            taken_j += step.power_w * dt_s
            assert step.power_w <= min(power_w, BATTERY.max_charge_w)
        else:
            step = BATTERY.discharge(stored_j, power_w, dt_s)
            given_j += step.power_w * dt_s
            assert step.power_w <= min(power_w, BATTERY.max_discharge_w)
        stored_j = step.stored_j
        assert 0.0 <= stored_j <= BATTERY.capacity_j
        assert step.power_w >= 0.0
    assert stored_j - first_j == pytest.approx(0.9 * taken_j - given_j / 0.8, abs=1e-6)


@given(power_w=st.floats(0.1, 10.0), dt_s=st.floats(0.1, 100.0))
def test_a_round_trip_loses_what_both_efficiencies_say(power_w: float, dt_s: float) -> None:
    charged = BATTERY.charge(0.0, power_w, dt_s)
    back_w = 0.9 * 0.8 * charged.power_w
    emptied = BATTERY.discharge(charged.stored_j, back_w, dt_s)
    assert emptied.power_w == pytest.approx(back_w)
    assert emptied.stored_j == pytest.approx(0.0, abs=1e-6)
