"""PJM's score for regulation."""

from __future__ import annotations

import numpy as np
import pytest

from steppe.errors import UsageError
from steppe.grid.verify.regulation import RegulationScore, regulation_score
from steppe.report.pjm import pjm_score

HOUR = 360
"""Samples in an hour."""


def signal(seed: int = 7) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return a signal of an hour that wanders around 0 W, as RegD does."""
    steps = np.random.default_rng(seed).normal(0.0, 100.0, HOUR)
    return np.cumsum(steps) - np.mean(np.cumsum(steps))


def test_a_response_equal_to_the_signal_has_the_score_1() -> None:
    found = regulation_score(list(signal()), list(signal()))
    assert found is not None
    assert found.windows == 12
    assert found.score == pytest.approx(1.0)
    assert found.credit == found.score


def test_a_late_response_loses_delay_and_precision_only() -> None:
    wanted = signal()
    found = regulation_score(list(wanted), list(np.roll(wanted, 6)))
    assert found is not None
    # The last window has no later samples to find the lag in.
    assert found.delay == pytest.approx(0.8, abs=0.02)
    assert found.correlation > 0.95
    assert found.precision < 0.95


def test_half_of_the_response_loses_precision_only() -> None:
    found = regulation_score(list(signal()), list(signal() / 2))
    assert found is not None
    assert found.correlation == pytest.approx(1.0)
    assert found.delay == pytest.approx(1.0)
    assert found.precision == pytest.approx(0.5)


def test_no_response_has_the_score_0_and_no_credit() -> None:
    assert regulation_score(list(signal()), [0.0] * HOUR) == RegulationScore(12, 0.0, 0.0, 0.0)
    low = RegulationScore(1, 0.3, 0.3, 0.1)
    assert low.score < 0.25
    assert low.credit == 0.0


def test_windows_without_a_signal_are_left_out() -> None:
    wanted = signal()
    wanted[30:60] = 5.0
    found = regulation_score(list(wanted), list(wanted))
    assert found is not None
    assert found.windows == 11
    assert regulation_score([1.0] * 60, [1.0] * 60) is None
    assert regulation_score([1.0, 2.0], [1.0, 2.0]) is None
    with pytest.raises(UsageError, match="found 1 and 2"):
        regulation_score([1.0], [1.0, 2.0])


@pytest.mark.parametrize(("seed", "share", "lag"), [(1, 0.0, 0), (2, 0.4, 3), (3, 1.0, 17)])
def test_the_mean_of_the_parts_is_the_score_of_a_run(seed: int, share: float, lag: int) -> None:
    wanted = signal(seed)
    response = share * np.roll(wanted, lag)
    found = regulation_score(list(wanted), list(response))
    whole = pjm_score(np.full(HOUR, 10.0), wanted, response)
    assert found is not None
    assert whole == pytest.approx(found.score, abs=1e-6)
