"""PJM's performance score for regulation, with its three parts.

The arithmetic is that of `steppe.report.pjm`, which scores a whole run. In 2025 PJM changed to one
signal; its rules since then are not in here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from steppe.errors import UsageError
from steppe.report.pjm import window_scores

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
    windows = window_scores(
        np.asarray(signal_w, dtype=np.float64), np.asarray(response_w, dtype=np.float64)
    )
    if not windows:
        return None
    return RegulationScore(
        len(windows),
        fmean(each.correlation for each in windows),
        fmean(each.delay for each in windows),
        fmean(each.precision for each in windows),
    )
