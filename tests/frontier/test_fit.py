from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.errors import InfeasibleError
from steppe.frontier.fit import SweepWindow, fit_frontier

CLOCKS = (600, 1000, 1500, 2000)
BATCHES = (2, 4, 8, 16)
MIX = 5.0


def window(clock_mhz: int, batch_limit: int, mix: float = MIX, noise: float = 1.0) -> SweepWindow:
    """A GPU that streams 50 ms a step and computes 2 ms and 1 ms a token at 2000 MHz."""
    steps = 40
    outputs = steps * batch_limit
    prompts = round(outputs * mix)
    streaming_s = 0.05 * steps
    computing_s = (0.002 * outputs + 0.001 * prompts) * 2000 / clock_mhz
    watts = 30 + 10 * clock_mhz / 2000
    energy_j = watts * (streaming_s + computing_s) + 20 * (clock_mhz / 2000) ** 2 * computing_s
    duration_s = (streaming_s + computing_s) * noise
    return SweepWindow(
        clock_mhz, batch_limit, duration_s, energy_j * noise, steps, prompts, outputs
    )


def test_the_fit_finds_the_constants_it_was_made_from() -> None:
    mixes = np.random.default_rng(0).uniform(0, 12, 16)
    pairs = [(c, b) for c in CLOCKS for b in BATCHES]
    fit = fit_frontier([window(c, b, mix) for (c, b), mix in zip(pairs, mixes, strict=True)])
    assert fit.streaming_s == pytest.approx(0.05, rel=1e-3)
    assert fit.decode_s == pytest.approx(0.002, rel=1e-2)
    assert fit.prefill_s == pytest.approx(0.001, rel=1e-2)
    assert fit.time_error < 1e-3
    assert fit.draw_error < 1e-3


@given(st.integers(0, 2**32 - 1))
def test_windows_with_an_odd_mix_still_give_the_points_of_the_long_run(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fit = fit_frontier(
        [
            window(c, b, float(rng.uniform(0, 15)), float(rng.uniform(0.98, 1.02)))
            for c in CLOCKS
            for b in BATCHES
        ]
    )
    for clock in CLOCKS:
        for batch in BATCHES:
            true = window(clock, batch)
            found = fit.point(clock, batch, MIX)
            assert found.output_tps == pytest.approx(true.output_tokens / true.duration_s, rel=0.08)
            assert found.draw_w == pytest.approx(true.draw_w, rel=0.08)


def test_points_between_measured_clocks_lie_between_their_draws() -> None:
    fit = fit_frontier([window(c, b) for c in CLOCKS for b in BATCHES])
    low, middle, high = (fit.point(c, 8, MIX).draw_w for c in (1000, 1250, 1500))
    assert low < middle < high


def test_a_replica_whose_clock_cannot_be_set_is_fitted_over_its_batch_limits() -> None:
    windows = [SweepWindow(0, b, 40 * (0.05 + 0.01 * b), 80.0 * b, 40, 0, 40 * b) for b in BATCHES]
    fit = fit_frontier(windows)
    assert fit.point(0, 8, 0.0).output_tps == pytest.approx(8 / 0.13, rel=1e-6)


def test_too_few_windows_are_an_error() -> None:
    with pytest.raises(InfeasibleError, match="found 1 windows"):
        fit_frontier([window(1000, 4)])
