"""How wrong the energy of windows that touch is, all together."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from steppe.energy.window import Quality

WRONG_AT_ENDS = frozenset({Quality.COUNTER, Quality.EMULATED})
"""Windows whose error lies at their ends. One that is estimated has a hole inside, and where power
was summed something may be missing all along: nothing cancels that."""


def span_error_j(windows: Iterable[tuple[float, str]]) -> float:
    """Return a bound of the error of all windows together, J.

    Where one window ends the next begins, so in a row of windows that are wrong at their ends only
    the first and the last count.

    Args:
        windows: Error, J, and quality of each; each begins where the one before it ends.
    """
    bound_j = 0.0
    for quality, row in groupby(windows, lambda window: window[1]):
        errors_j = [error_j for error_j, _ in row]
        ends_alone = len(errors_j) > 2 and quality in WRONG_AT_ENDS
        bound_j += errors_j[0] + errors_j[-1] if ends_alone else sum(errors_j)
    return bound_j
