from __future__ import annotations

import pytest

from steppe.sites.outlook import Outlook

STEP_S = 900.0


def test_the_power_of_now_is_known() -> None:
    first = Outlook(STEP_S).expected(5000.0, [100.0, 80.0])[0]
    assert first == (5000.0, 100.0, 100.0, 100.0)


def test_without_earlier_forecasts_the_width_grows_with_the_lag() -> None:
    steps = Outlook(STEP_S).expected(0.0, [100.0] * 400)
    widths = [each.p90_w - each.p10_w for each in steps]
    assert widths == sorted(widths)
    assert widths[4] == pytest.approx(30.0)  # an hour ahead
    assert widths[-1] == pytest.approx(120.0)
    assert [each.start_s for each in steps[:2]] == [0.0, STEP_S]


def test_the_quantiles_are_those_of_what_came_after_earlier_forecasts() -> None:
    outlook = Outlook(STEP_S)
    for n in range(40):
        # A step ahead, 50 W are forecast; by turns 40 W and 70 W come.
        outlook.note(n * STEP_S, [40.0 if n % 2 else 70.0, 50.0])
    _, step = outlook.expected(0.0, [0.0, 50.0])
    assert (step.p10_w, step.p50_w, step.p90_w) == (40.0, 50.0, 70.0)


def test_a_supply_that_came_as_forecast_has_no_width() -> None:
    outlook = Outlook(STEP_S)
    for n in range(20):
        outlook.note(n * STEP_S, [80.0, 80.0, 80.0])
    assert {each[1:] for each in outlook.expected(0.0, [80.0] * 3)} == {(80.0, 80.0, 80.0)}


def test_no_quantile_is_below_zero() -> None:
    outlook = Outlook(STEP_S)
    for n in range(20):
        outlook.note(n * STEP_S, [0.0, 100.0])
    assert outlook.expected(0.0, [0.0, 30.0])[1].p10_w == 0.0
