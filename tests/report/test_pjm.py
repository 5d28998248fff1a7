from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from steppe.report.pjm import pjm_score


def signal(duration_s: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.repeat(rng.uniform(50, 100, size=-(-duration_s // 10)), 10)[:duration_s]


def score(asked: NDArray[np.float64], done: NDArray[np.float64]) -> float | None:
    return pjm_score(np.ones(len(asked)), asked, done)


@given(st.integers(60, 1500), st.integers(0, 100))
@settings(max_examples=30)
def test_an_identical_response_scores_one(duration_s: int, seed: int) -> None:
    asked = signal(duration_s, seed)
    assert score(asked, asked) == pytest.approx(1.0)


@given(st.integers(0, 100), st.integers(0, 100))
@settings(max_examples=30)
def test_a_score_is_between_nothing_and_one(seed: int, other: int) -> None:
    found = score(signal(700, seed), signal(700, other))
    assert found is not None
    assert 0 <= found <= 1


def test_a_late_response_loses_delay_and_precision() -> None:
    asked = signal(900)
    late = np.concatenate((np.full(60, asked[0]), asked[:-60]))
    error = np.abs(late - asked)
    precision = [1 - error[s : s + 300].mean() / asked[s : s + 300].mean() for s in (0, 300, 600)]
    assert score(asked, late) == pytest.approx((1 + 0.8 + np.mean(precision)) / 3)


def test_a_response_that_never_moves_has_precision_only() -> None:
    asked = signal(300)
    still = np.full(300, asked.mean())
    precision = 1 - np.abs(still - asked).mean() / asked.mean()
    assert score(asked, still) == pytest.approx(precision / 3)


def test_a_run_below_one_minute_has_no_score() -> None:
    assert score(signal(59), signal(59)) is None


def test_a_constant_signal_has_no_score() -> None:
    assert score(np.full(300, 80.0), signal(300)) is None


def test_windows_of_any_length_are_resampled_by_their_energy() -> None:
    asked = signal(300)
    width_s = np.full(150, 2.0)
    assert pjm_score(width_s, asked[::2], asked[::2]) == pytest.approx(1.0)
