"""PJM's performance score for regulation, with its three parts.

PJM Manual 12, as coded in GMLC-1-4-2/battery_interface (`reg_service.py`): 10-s samples in windows
of five minutes. Correlation is the largest Pearson's r of the signal and a response that comes 0 to
300 s later; delay falls from 1 to 0 over these 300 s; precision is 1 less the mean absolute error
over the mean absolute signal of the window, at least 0. `steppe.report.pjm` has the mean of the
three for a whole run. In 2025 PJM changed to one signal; its rules since then are not in here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.errors import UsageError

Floats = NDArray[np.float64]

SAMPLE_S = 10
WINDOW = 30
"""Samples in a window; also the largest lag."""
LEAST_CREDIT = 0.25
"""An hour with a lower score has no credit."""


@dataclass(frozen=True, slots=True)
class RegulationScore:
    """The parts of the score, each the mean over windows, from 0 to 1.

    Attributes:
        windows: How many windows were scored.
        correlation: Whether the response has the shape of the signal.
        delay: 1 for a response at once, 0 for one that comes 300 s later or never.
        precision: 1 for a response that is equal to the signal.
    """

    windows: int
    correlation: float
    delay: float
    precision: float

    @property
    def score(self) -> float:
        """Mean of the three."""
        return (self.correlation + self.delay + self.precision) / 3

    @property
    def credit(self) -> float:
        """The score as it is paid: 0 below `LEAST_CREDIT`."""
        return self.score if self.score >= LEAST_CREDIT else 0.0


def regulation_score(
    signal_w: Sequence[float], response_w: Sequence[float]
) -> RegulationScore | None:
    """Return the score of an hour, or of any time of whole windows.

    Windows in which the signal does not move ask for no regulation and are left out.

    Args:
        signal_w: Change that was asked for around the operating level, W, in samples of 10 s.
        response_w: Change that was made, W, in the same samples.

    Returns:
        The score; None without a window in which the signal moves.

    Raises:
        UsageError: The two are not equally long.
    """
    if len(signal_w) != len(response_w):
        found = f"found {len(signal_w)} and {len(response_w)}"
        raise UsageError(f"regulation: asked for as many signals as responses, {found}")
    signal = np.asarray(signal_w, dtype=np.float64)
    response = np.asarray(response_w, dtype=np.float64)
    parts = [
        _parts(signal[first : first + WINDOW], response[first:])
        for first in range(0, len(signal) - WINDOW + 1, WINDOW)
        if not _is_constant(signal[first : first + WINDOW])
    ]
    if not parts:
        return None
    correlation, delay, precision = np.mean(parts, axis=0)
    return RegulationScore(len(parts), float(correlation), float(delay), float(precision))


def _parts(signal: Floats, response: Floats) -> tuple[float, float, float]:
    """Return correlation, delay and precision of a window.

    Args:
        signal: The window of the signal.
        response: The response from the begin of the window on. A lag counts if half of the window
            or more has a response, so that the last windows can be scored.
    """
    correlations = []
    for lag in range(WINDOW + 1):
        later = response[lag : lag + WINDOW]
        if 2 * len(later) >= WINDOW:
            correlations.append(_pearson(signal[: len(later)], later))
    lag = int(np.argmax(correlations))
    correlation = max(0.0, correlations[lag])
    delay = (WINDOW - lag) / WINDOW if correlation > 0 else 0.0
    error_w = np.abs(response[:WINDOW] - signal).mean()
    precision = max(0.0, 1.0 - float(error_w / np.abs(signal).mean()))
    return correlation, delay, precision


def _pearson(first: Floats, second: Floats) -> float:
    if _is_constant(first) or _is_constant(second):
        return 0.0
    return min(1.0, float(np.corrcoef(first, second)[0, 1]))


def _is_constant(values: Floats) -> bool:
    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())
