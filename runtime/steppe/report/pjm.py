"""PJM's performance score for regulation: did the response have the signal's shape, in time?

PJM Manual 12, as coded in GMLC-1-4-2/battery_interface (`reg_service.py`): 10-s samples in windows
of five minutes. Correlation is the largest Pearson's r of the signal and a response that comes 0 to
300 s later; delay falls from 1 to 0 over these 300 s; precision is 1 less the mean absolute error
over the mean absolute signal of the window, at least 0. The score is the mean of the three.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SAMPLE_S = 10
WINDOW_SAMPLES = 30
"""Samples in one window of five minutes; also the largest lag."""
FEWEST_SAMPLES = 6
"""A run shorter than this has no score."""


@dataclass(frozen=True, slots=True)
class WindowScore:
    """The parts of the score of a window, from 0 to 1.

    Attributes:
        correlation: Whether the response has the shape of the signal.
        delay: 1 for a response at once, 0 for one that comes 300 s later or never.
        precision: 1 for a response that is equal to the signal.
    """

    correlation: float
    delay: float
    precision: float

    @property
    def score(self) -> float:
        """Mean of the three."""
        return (self.correlation + self.delay + self.precision) / 3


def pjm_score(width_s: Floats, signal_w: Floats, response_w: Floats) -> float | None:
    """Return the mean performance score over the run's whole five-minute windows.

    A run of one to five minutes is one window of its own length. Windows in which the signal
    is constant require no regulation and are left out.

    Args:
        width_s: Length of each sample, s.
        signal_w: The signal, W.
        response_w: The response, W.

    Returns:
        The score, 0 to 1; None for a run below one minute or a signal that never moves.
    """
    signal_w, response_w = (_resampled(width_s, values) for values in (signal_w, response_w))
    length = min(WINDOW_SAMPLES, len(signal_w))
    if length < FEWEST_SAMPLES:
        return None
    scores = [window.score for window in window_scores(signal_w, response_w, length)]
    return float(np.mean(scores)) if scores else None


def window_scores(
    signal_w: Floats, response_w: Floats, length: int = WINDOW_SAMPLES
) -> list[WindowScore]:
    """Return the score of each whole window in which the signal moves.

    Args:
        signal_w: The signal in samples of `SAMPLE_S`, W.
        response_w: The response in the same samples, W.
        length: Samples of a window.
    """
    firsts = range(0, len(signal_w) - length + 1, length)
    windows = ((signal_w[first : first + length], response_w[first:]) for first in firsts)
    return [_score(signal, response) for signal, response in windows if not _is_constant(signal)]


def _resampled(width_s: Floats, values: Floats) -> Floats:
    """Return the means over consecutive spans of `SAMPLE_S`, without a shorter remainder."""
    ends_s = np.concatenate(([0.0], np.cumsum(width_s)))
    integral = np.concatenate(([0.0], np.cumsum(values * width_s)))
    count = int((ends_s[-1] + 1e-6) // SAMPLE_S)
    return np.diff(np.interp(SAMPLE_S * np.arange(count + 1), ends_s, integral)) / SAMPLE_S


def _score(wanted_w: Floats, response_w: Floats) -> WindowScore:
    """Return the parts of a window.

    The lag is the shift of the response that correlates best; a shift must keep half of the
    window within the run. A response that never follows has neither correlation nor delay
    score.

    Args:
        wanted_w: The window of the signal.
        response_w: The response from the begin of the window on.
    """
    correlations = []
    for lag in range(WINDOW_SAMPLES + 1):
        drawn_w = response_w[lag : lag + len(wanted_w)]
        if len(drawn_w) * 2 >= len(wanted_w):
            correlations.append(_correlation(wanted_w[: len(drawn_w)], drawn_w))
    lag = int(np.argmax(correlations))
    correlation = max(0.0, correlations[lag])
    delay = (WINDOW_SAMPLES - lag) / WINDOW_SAMPLES if correlation > 0 else 0.0
    error_w = np.abs(response_w[: len(wanted_w)] - wanted_w).mean()
    precision = max(0.0, 1 - float(error_w / np.abs(wanted_w).mean()))
    return WindowScore(correlation, delay, precision)


def _correlation(first: Floats, second: Floats) -> float:
    """Return Pearson's r; 0 where one of the two is constant."""
    if _is_constant(first) or _is_constant(second):
        return 0.0
    return min(1.0, float(np.corrcoef(first, second)[0, 1]))


def _is_constant(values: Floats) -> bool:
    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())
