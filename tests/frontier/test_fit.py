from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.errors import InfeasibleError
from steppe.frontier.fit import fit_frontier
from steppe.frontier.point import OperatingPoint

CLOCKS = (600, 1000, 1500, 2000)
BATCHES = (2, 4, 8, 16)


def true_point(clock_mhz: int, batch_limit: int, noise: float = 1.0) -> OperatingPoint:
    """A GPU that streams 50 ms a step and computes 6 ms a token at 2000 MHz."""
    compute_s = 0.006 * 2000 / clock_mhz
    token_s = 0.05 / batch_limit + compute_s
    watts = 30 + 10 * clock_mhz / 2000
    more = 20 * (clock_mhz / 2000) ** 2
    draw_w = watts + more * compute_s / token_s
    return OperatingPoint(clock_mhz, batch_limit, noise / token_s, draw_w * noise)


def test_the_fit_finds_the_constants_it_was_made_from() -> None:
    fit = fit_frontier([true_point(c, b) for c in CLOCKS for b in BATCHES])
    assert fit.streaming_s == pytest.approx(0.05, rel=1e-6)
    assert fit.computing_s == pytest.approx(0.006, rel=1e-6)
    assert fit.overhead_s == pytest.approx(0.0, abs=1e-9)
    assert fit.tps_error < 1e-9
    assert fit.draw_error < 1e-9


@given(st.integers(0, 2**32 - 1))
def test_noisy_windows_give_points_closer_to_the_truth_than_they_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noisy = [true_point(c, b, float(rng.uniform(0.85, 1.15))) for c in CLOCKS for b in BATCHES]
    fit = fit_frontier(noisy)
    errors = [
        abs(fit.point(c, b).output_tps / true_point(c, b).output_tps - 1)
        for c in CLOCKS
        for b in BATCHES
    ]
    assert np.median(errors) < 0.10


def test_points_between_measured_clocks_lie_between_their_draws() -> None:
    fit = fit_frontier([true_point(c, b) for c in CLOCKS for b in BATCHES])
    low, middle, high = (fit.point(c, 8).draw_w for c in (1000, 1250, 1500))
    assert low < middle < high


def test_a_replica_whose_clock_cannot_be_set_is_fitted_over_its_batch_limits() -> None:
    points = [OperatingPoint(0, b, 1 / (0.05 / b + 0.01), 40.0) for b in BATCHES]
    fit = fit_frontier(points)
    assert fit.point(0, 8).output_tps == pytest.approx(points[2].output_tps, rel=1e-6)
    assert fit.point(0, 8).draw_w == pytest.approx(40.0)


def test_too_few_points_are_an_error() -> None:
    with pytest.raises(InfeasibleError, match="found 1 points"):
        fit_frontier([true_point(1000, 4)])
