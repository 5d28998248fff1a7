from __future__ import annotations

from collections.abc import Callable

import pytest

from steppe.measure.sweep.result import Estimates, Flag, MeasuredWindow, Phase, PointResult, Setting


def test_the_energy_per_token_is_all_joules_over_all_tokens(
    make_point: Callable[..., PointResult],
) -> None:
    point = make_point(1800, 8)
    estimates = point.estimates
    assert estimates is not None
    joules = sum(window.energy_j for window in point.windows)
    tokens = sum(window.output_tokens for window in point.windows)
    assert estimates.energy_per_output_token.value == pytest.approx(joules / tokens)
    assert estimates.output_tokens_per_joule.value == pytest.approx(tokens / joules)
    assert estimates.draw_w.value * 30 == pytest.approx(joules)


def test_intervals_hold_the_bound_of_the_meters_error(
    make_point: Callable[..., PointResult],
) -> None:
    point = make_point()
    estimates = point.estimates
    assert estimates is not None
    least = point.meter_error_j / sum(window.output_tokens for window in point.windows)
    interval = estimates.energy_per_output_token
    assert interval.high - interval.value >= least
    assert interval.value - interval.low >= least


def test_no_interval_reaches_below_zero() -> None:
    windows = (
        MeasuredWindow(10.0, 100.0, 1.0, 10, 10, 10),
        MeasuredWindow(10.0, 2000.0, 1.0, 10, 900, 900),
    )
    estimates = Estimates.of(windows, 5.0, seed=0)
    assert estimates.energy_per_prompt_token is not None
    lows = [
        estimates.energy_per_output_token.low,
        estimates.energy_per_prompt_token.low,
        estimates.output_tps.low,
        estimates.draw_w.low,
    ]
    assert min(lows) == 0.0
    assert estimates.output_tps.high > estimates.output_tps.value


def test_estimates_are_the_same_each_time(make_point: Callable[..., PointResult]) -> None:
    assert make_point().estimates == make_point().estimates


@pytest.mark.parametrize("flag", [Flag.THROTTLED, Flag.SHARED, Flag.STALE, Flag.UNSATURATED])
def test_a_point_with_a_flag_that_forbids_its_use_is_unsound(
    make_point: Callable[..., PointResult], flag: Flag
) -> None:
    assert not make_point(1800, 8, Phase.MIXED, flag).is_sound


def test_a_point_that_had_not_settled_is_sound(
    make_point: Callable[..., PointResult],
) -> None:
    assert make_point(1800, 8, Phase.MIXED, Flag.UNSETTLED).is_sound


def test_each_point_has_its_own_key() -> None:
    keys = {Setting(phase, c, b, 8, 9).key for phase in Phase for c in (1, 2) for b in (1, 2)}
    assert len(keys) == 12
    assert Setting(Phase.DECODE, 1200, 4, 1, 128).key == "decode c1200 b4 p1 o128"
