from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.measure.statistics import (
    Interval,
    log_ratio_interval,
    ratio_interval,
)

JOULES_PER_TOKEN = 0.5


def simulated_windows(rng: np.random.Generator, count: int) -> tuple[list[float], list[float]]:
    """Windows whose tokens vary by 15 % and whose joules per token by 3 %."""
    tokens = rng.lognormal(7.0, 0.15, count)
    joules = JOULES_PER_TOKEN * tokens * rng.lognormal(-0.00045, 0.03, count)
    return joules.tolist(), tokens.tolist()


@pytest.mark.parametrize("count", [3, 5, 10])
def test_an_interval_covers_the_truth_in_at_least_90_of_100_short_runs(count: int) -> None:
    rng = np.random.default_rng(count)
    covered = 0
    for _ in range(100):
        joules, tokens = simulated_windows(rng, count)
        covered += ratio_interval(joules, tokens, rng).holds(JOULES_PER_TOKEN)
    assert covered >= 90


def test_intervals_are_not_too_wide() -> None:
    rng = np.random.default_rng(0)
    widths = [
        ratio_interval(*simulated_windows(rng, 5), rng).relative_half_width for _ in range(50)
    ]
    exact = 2.776 * 0.03 / math.sqrt(5)  # Student's t at 4 degrees of freedom
    assert 0.5 * exact < np.median(widths) < 1.5 * exact


@given(
    st.lists(st.tuples(st.floats(1, 1e3), st.floats(1, 1e3)), min_size=2, max_size=12),
    st.integers(0, 9),
)
def test_the_estimate_is_the_ratio_of_the_sums_and_lies_inside(
    windows: list[tuple[float, float]], seed: int
) -> None:
    above, below = zip(*windows, strict=True)
    interval = ratio_interval(above, below, np.random.default_rng(seed))
    assert interval.value == pytest.approx(sum(above) / sum(below))
    assert interval.low <= interval.value * (1 + 1e-9)
    assert interval.high >= interval.value * (1 - 1e-9)
    assert interval.widened(1.0).holds(interval.value)


def test_one_window_gives_an_estimate_without_an_interval() -> None:
    interval = ratio_interval([10.0], [20.0], np.random.default_rng(0))
    assert interval.value == 0.5
    assert not interval.is_bounded


def test_equal_windows_give_no_width() -> None:
    interval = ratio_interval([6.0] * 4, [2.0] * 4, np.random.default_rng(0))
    assert (interval.low, interval.value, interval.high) == (3.0, 3.0, 3.0)


def test_the_inverse_swaps_the_ends() -> None:
    assert Interval(0.5, 0.4, 0.8).inverse() == Interval(2.0, 1.25, 2.5)
    assert Interval(0.5, -0.1, 0.8).inverse().high == math.inf


@pytest.mark.parametrize(("above", "below"), [([], []), ([1.0], [0.0]), ([1.0, 2.0], [1.0])])
def test_a_ratio_without_tokens_is_refused(above: list[float], below: list[float]) -> None:
    with pytest.raises(ValueError, match="asked for a ratio"):
        ratio_interval(above, below, np.random.default_rng(0))


def test_the_ratio_of_two_runs_is_found_with_its_interval() -> None:
    rng = np.random.default_rng(3)
    first = simulated_windows(rng, 8)
    joules, tokens = simulated_windows(rng, 8)
    second = ([0.8 * j for j in joules], tokens)
    log = log_ratio_interval(first, second, rng)
    assert math.exp(log.low) < 0.8 < math.exp(log.high) < 1.0


def test_a_window_with_neither_a_token_nor_a_joule_leaves_the_ratio_of_two_runs_bounded() -> None:
    rng = np.random.default_rng(0)
    few = ([5.0, 0.0, 6.0], [10.0, 0.0, 12.0])
    log = log_ratio_interval(few, few, rng)
    assert log.is_bounded
    assert log.value == 0.0
    assert log.holds(0.0)


@pytest.mark.parametrize("tokens", [[0.0, 0.0, 60.0], [0.0, 1.0, 60.0]])
def test_a_tail_without_tokens_or_joules_has_no_end(tokens: list[float]) -> None:
    rng = np.random.default_rng(0)
    even = [100.0] * 3
    assert log_ratio_interval((even, even), (even, tokens), rng).high == math.inf
    assert log_ratio_interval((even, even), (tokens, even), rng).low == -math.inf
    assert ratio_interval(even, tokens, rng).high == math.inf


def test_a_rare_resample_without_a_token_moves_no_end() -> None:
    tokens = [100.0] * 5 + [0.0]  # 1 resample in 46,656 has none
    assert ratio_interval([50.0] * 6, tokens, np.random.default_rng(0)).is_bounded
