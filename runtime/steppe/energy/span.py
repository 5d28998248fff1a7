"""The error bound of adjacent energy windows together."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from steppe.energy.window import Quality

WRONG_AT_ENDS = frozenset({Quality.COUNTER, Quality.EMULATED})
"""Qualities whose error lies at the ends of a window. An estimated window has a hole inside, and an
integrated one may miss energy anywhere, so their errors do not cancel."""


def span_error_j(windows: Iterable[tuple[float, str]]) -> float:
    """Return a bound of the error of all windows together, J.

    Each window begins where the one before ends. In a row of windows with errors at their ends,
    only the first and the last error count.

    Args:
        windows: Error, J, and quality of each; each begins where the one before it ends.
    """
    bound_j = 0.0
    for quality, row in groupby(windows, lambda window: window[1]):
        errors_j = [error_j for error_j, _ in row]
        ends_alone = len(errors_j) > 2 and quality in WRONG_AT_ENDS
        bound_j += errors_j[0] + errors_j[-1] if ends_alone else sum(errors_j)
    return bound_j
