from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from steppe.measure.comparison import (
    Comparison,
    Ratios,
    compare,
    corrected,
    energy_per_token,
    joules_per_token,
    output_rate,
    tokens_per_second,
)
from steppe.measure.statistics import Interval
from steppe.measure.sweep.result import Flag, Phase, PointResult


def synthetic_points(
    rng: np.random.Generator, level: float, points: int, noise: float = 0.02
) -> dict[str, Ratios]:
    """Return points of different energy per token, all at a level, with noise in each window."""
    return {
        f"point {number}": Ratios(
            tuple((level * (number + 1) * 100 * rng.normal(1, noise, 5)).tolist()), (100.0,) * 5
        )
        for number in range(points)
    }


def compared(a: dict[str, Ratios], b: dict[str, Ratios]) -> Comparison:
    found = compare("energy_per_output_token", a, b, np.random.default_rng(0))
    assert found is not None
    return found


def test_a_change_at_every_point_is_real() -> None:
    rng = np.random.default_rng(1)
    found = compared(synthetic_points(rng, 1.0, 8), synthetic_points(rng, 0.9, 8))
    assert found.is_real
    assert found.ratio.value == pytest.approx(0.9, rel=0.02)
    assert found.wilcoxon_p is not None
    assert found.wilcoxon_p < 0.01
    assert "the difference is real" in found.sentence


def test_chance_is_called_real_in_about_five_of_100_comparisons() -> None:
    rng = np.random.default_rng(2)
    false_alarms = sum(
        compared(synthetic_points(rng, 1.0, 7), synthetic_points(rng, 1.0, 7)).is_real
        for _ in range(100)
    )
    assert false_alarms <= 9


def test_one_common_point_is_compared_by_its_windows() -> None:
    rng = np.random.default_rng(3)
    found = compared(synthetic_points(rng, 1.0, 1), synthetic_points(rng, 0.8, 1))
    assert found.wilcoxon_p is None
    assert found.is_real


def test_single_windows_prove_nothing() -> None:
    a, b = {"x": Ratios((1.0,), (2.0,))}, {"x": Ratios((3.0,), (2.0,))}
    found = compared(a, b)
    assert not found.is_real
    assert "too few windows" in found.sentence


@pytest.mark.parametrize(
    ("baseline", "other"),
    [
        (Ratios((100.0,) * 3, (10.0,) * 3), Ratios((100.0,) * 3, (0.0, 0.0, 60.0))),
        (Ratios((10.0,) * 3, (1.0,) * 3), Ratios((0.0, 0.0, 3.0), (1.0,) * 3)),
    ],
)
def test_mostly_empty_windows_prove_nothing(baseline: Ratios, other: Ratios) -> None:
    found = compared({"x": baseline}, {"x": other})
    assert not found.is_real
    assert "too few windows" in found.sentence


@pytest.mark.parametrize("points", [1, 8])
def test_a_difference_within_the_meters_error_proves_nothing(points: int) -> None:
    rng = np.random.default_rng(4)
    a, b = synthetic_points(rng, 1.0, points, 0.001), synthetic_points(rng, 0.98, points, 0.001)
    assert compared(a, b).is_real
    a, b = ({key: replace(r, error_share=0.01) for key, r in x.items()} for x in (a, b))
    found = compared(a, b)
    assert not found.is_real
    assert found.ratio.low < 0.961
    assert found.pairs[0].ratio.high > 1.0


@pytest.mark.parametrize("error_share", [1.0, math.inf])
@pytest.mark.parametrize("points", [1, 8])
def test_a_meter_whose_error_has_no_bound_proves_nothing(points: int, error_share: float) -> None:
    rng = np.random.default_rng(5)
    a, b = synthetic_points(rng, 1.0, points), synthetic_points(rng, 0.5, points)
    b["point 0"] = replace(b["point 0"], error_share=error_share)
    found = compared(a, b)
    assert not found.is_real
    assert "error has no bound" in found.sentence


def test_a_point_has_the_error_of_its_meter_and_of_one_token(
    make_point: Callable[..., PointResult],
) -> None:
    point = make_point(1800, 8)
    energy_j = sum(window.energy_j for window in point.windows)
    tokens = sum(window.output_tokens for window in point.windows)
    joules, rate = energy_per_token([point]), output_rate([point])
    assert joules[point.setting.key].error_share == pytest.approx(0.2 / energy_j + 1 / tokens)
    assert rate[point.setting.key].error_share == 1 / tokens


@pytest.mark.parametrize("count", [2, 3])
def test_three_pairs_or_windows_are_the_fewest_for_an_interval(count: int) -> None:
    fine, lean = Ratios((50.0,) * 3, (10.0,) * 3), Ratios((45.0,) * 3, (10.0,) * 3)
    names = ("x", "y", "z")[:count]
    pairs = compared(dict.fromkeys(names, fine), dict.fromkeys(names, lean))
    few, other = Ratios((50.0,) * count, (10.0,) * count), Ratios((45.0,) * count, (10.0,) * count)
    windows = compared({"x": few}, {"x": other})
    assert [pairs.is_real, windows.is_real] == [count == 3, count == 3]
    assert ("too few pairs" in pairs.sentence) == (count == 2)
    assert ("too few windows" in windows.sentence) == (count == 2)


def noisy(rng: np.random.Generator, ratio: float, noise: float) -> Ratios:
    """Return five windows that differ by the noise, with exactly this ratio in all."""
    above = 100 * rng.normal(1, noise, 5)
    return Ratios(tuple((above * ratio * 500 / above.sum()).tolist()), (100.0,) * 5)


@pytest.mark.parametrize(("noise", "is_real"), [(0.01, True), (0.3, False)])
def test_points_that_agree_by_chance_although_their_own_windows_differ_prove_nothing(
    noise: float, is_real: bool
) -> None:
    rng = np.random.default_rng(6)
    a = {key: noisy(rng, 1.0, noise) for key in "xyz"}
    b = {key: noisy(rng, ratio, noise) for key, ratio in {"x": 0.9, "y": 0.901, "z": 0.899}.items()}
    found = compared(a, b)
    assert found.is_real is is_real
    assert found.ratio.value == pytest.approx(0.9, rel=0.001)


def test_the_interval_of_the_mean_is_that_of_the_stated_formula() -> None:
    a = {key: Ratios((9.0, 11.0), (10.0, 10.0)) for key in "xyz"}
    levels = {"x": 8.0, "y": 9.0, "z": 10.0}
    b = {key: Ratios((joules,) * 2, (10.0, 10.0)) for key, joules in levels.items()}
    logs = np.log([0.8, 0.9, 1.0])
    within = 2 * (1.0 + 1.0) / 20.0**2  # n / (n - 1) sum of squared residuals over J squared
    assert logs.var(ddof=1) > within
    half = 4.302653 * math.sqrt(logs.var(ddof=1) / 3)  # Student's t at 2 degrees of freedom
    found = compared(a, b)
    assert math.log(found.ratio.low) == pytest.approx(logs.mean() - half)
    assert math.log(found.ratio.high) == pytest.approx(logs.mean() + half)
    same = {key: Ratios((10.0, 10.0), (10.0, 10.0)) for key in "xyz"}
    half = 4.302653 * math.sqrt(within / 3)
    assert math.log(compared(a, same).ratio.high) == pytest.approx(half)


@pytest.mark.parametrize(("more", "is_real"), [(0.1, False), (1.0, True)])
def test_a_difference_of_one_token_in_all_proves_nothing(more: float, is_real: bool) -> None:
    evenly, tokens = [50.0] * 10, ([100.0] * 10, [100.0 + more] * 10)
    joules = [{"x": joules_per_token(evenly, each, 0.0)} for each in tokens]
    rates = [{"x": tokens_per_second(each, evenly)} for each in tokens]
    assert [compared(*joules).is_real, compared(*rates).is_real] == [is_real, is_real]


def test_results_without_a_common_point_cannot_be_compared() -> None:
    rng = np.random.default_rng(0)
    assert compare("x", synthetic_points(rng, 1, 2), {"other": Ratios((1.0,), (1.0,))}, rng) is None


def test_p_values_of_several_comparisons_are_corrected() -> None:
    base = Comparison("x", (), Interval(0.9, 0.8, 0.95), None)
    found = corrected([replace(base, wilcoxon_p=p) for p in (0.03, 0.01, None, 0.04)])
    assert [c.wilcoxon_p for c in found] == [0.06, 0.03, None, 0.06]


def test_unsound_points_are_left_out(make_point: Callable[..., PointResult]) -> None:
    points = [make_point(1800, 8), make_point(1000, 8, Phase.MIXED, Flag.THROTTLED)]
    assert list(energy_per_token(points)) == ["mixed c1800 b8 p144 o26"]
    assert list(output_rate(points)) == ["mixed c1800 b8 p144 o26"]
