"""When the rows of a job ran, and what they drew and wrote meanwhile."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.batch.row import RowResult

Floats = NDArray[np.float64]

SHORTEST_S = 1e-3
"""A row is taken to last at least this long, s, so that its power is finite."""


@dataclass(frozen=True, slots=True, eq=False)
class RowSpans:
    """The last attempt of each row of a job that ran.

    Attributes:
        begun_s: When it began, s since the Unix epoch; (n,).
        ended_s: When it ended, s since the Unix epoch; (n,).
        energy_j: Energy of all attempts of the row, J; (n,).
        output_tokens: Output tokens of the row; (n,).
    """

    begun_s: Floats
    ended_s: Floats
    energy_j: Floats
    output_tokens: Floats

    def energy_until_j(self, at_s: Floats) -> Floats:
        """Return the energy drawn until each of some times, J; even over the time of each row."""
        return amount_until(at_s, self.begun_s, self.ended_s, self.energy_j)

    def tokens_until(self, at_s: Floats) -> Floats:
        """Return the output tokens written until each of some times."""
        return amount_until(at_s, self.begun_s, self.ended_s, self.output_tokens)

    def rows_until(self, at_s: Floats) -> Floats:
        """Return how many rows had ended at each of some times."""
        ended: Floats = np.searchsorted(np.sort(self.ended_s), at_s, side="right").astype(float)
        return ended

    def busy_until_s(self, at_s: Floats) -> Floats:
        """Return for how long at least one row ran until each of some times, s."""
        begun_s, ended_s = self._busy()
        return amount_until(at_s, begun_s, ended_s, ended_s - begun_s)

    def _busy(self) -> tuple[Floats, Floats]:
        """Return begin and end of each span in which at least one row ran."""
        order = np.argsort(self.begun_s, kind="stable")
        begun_s, reached_s = self.begun_s[order], np.maximum.accumulate(self.ended_s[order])
        opens = np.append(True, begun_s[1:] > reached_s[:-1])[: len(begun_s)]
        closes = np.append(opens[1:], True)[: len(begun_s)]
        return begun_s[opens], reached_s[closes]


def spans_of(results: Iterable[RowResult]) -> RowSpans:
    """Return the spans of the rows that ran; 32 bytes are kept of each."""
    columns = [array("d") for _ in range(4)]
    for result in results:
        if result.started_epoch_s <= 0:  # it never ran: a bad row, or one that came too late
            continue
        ended_s = max(result.ended_epoch_s, result.started_epoch_s + SHORTEST_S)
        energy_j = result.energy_j + result.wasted_j
        values = (result.started_epoch_s, ended_s, energy_j, float(result.output_tokens))
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return RowSpans(*(np.array(column, dtype=np.float64) for column in columns))


def amount_until(at_s: Floats, begun_s: Floats, ended_s: Floats, amounts: Floats) -> Floats:
    """Return how much of some amounts, each even over its span, lies before each of some times.

    Args:
        at_s: The times, s; (m,).
        begun_s: Begin of each span, s; (n,).
        ended_s: End of each span, s, after its begin; (n,).
        amounts: The amounts; (n,).
    """
    if not len(amounts):
        return np.zeros(len(at_s))
    rates = amounts / (ended_s - begun_s)
    times_s = np.concatenate((begun_s, ended_s))
    order = np.argsort(times_s, kind="stable")
    times_s = times_s[order]
    slopes = np.cumsum(np.concatenate((rates, -rates))[order])
    grown = np.append(0.0, np.cumsum(slopes[:-1] * np.diff(times_s)))
    until: Floats = np.interp(at_s, times_s, grown, left=0.0, right=float(np.sum(amounts)))
    return until
