"""What was delivered of what was promised, interval by interval, in whole watts.

    delivered_i  = max(0, baseline_i - load_i)       (load - baseline where more was asked for)
    deficiency_i = max(0, committed_i - delivered_i)
    ratio        = min(1, sum delivered / sum committed)

The columns are those of UFTP's FlexSettlement. An interval without a reading delivers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from steppe.errors import UsageError
from steppe.ledger.tariff import divided

PPM = 1_000_000


class Direction(StrEnum):
    """Whether an event asks the site to draw less or more than its baseline."""

    LESS = "less"
    MORE = "more"

    def change_w(self, baseline_w: int, load_w: int) -> int:
        """Return by how much a draw differs from the baseline in this direction, W."""
        return baseline_w - load_w if self is Direction.LESS else load_w - baseline_w


@dataclass(frozen=True, slots=True)
class Row:
    """One interval of the event.

    Attributes:
        start_s: Its begin, s since the Unix epoch.
        baseline_w: What would have been drawn, W.
        committed_w: What was promised, W.
        delivered_w: What was delivered, W.
        deficiency_w: What was missing, W.
        load_w: What was drawn, W; None without a reading.
    """

    start_s: int
    baseline_w: int
    committed_w: int
    delivered_w: int
    deficiency_w: int
    load_w: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """All intervals of the event.

    Attributes:
        direction: What was asked for.
        interval_s: Length of an interval, s.
        rows: The intervals.
    """

    direction: Direction
    interval_s: int
    rows: tuple[Row, ...]

    @property
    def committed_j(self) -> int:
        """Energy that was promised, J."""
        return self.interval_s * sum(row.committed_w for row in self.rows)

    @property
    def delivered_j(self) -> int:
        """Energy that was delivered, J."""
        return self.interval_s * sum(row.delivered_w for row in self.rows)

    @property
    def counted_j(self) -> int:
        """Energy that was delivered, in each interval at most what was promised, J."""
        return self.interval_s * sum(min(row.delivered_w, row.committed_w) for row in self.rows)

    @property
    def deficiency_j(self) -> int:
        """Energy that was promised and not delivered, J."""
        return self.interval_s * sum(row.deficiency_w for row in self.rows)

    @property
    def ratio_ppm(self) -> int | None:
        """Delivered of promised, at most all of it, 10^-6; None if nothing was promised."""
        if not self.committed_j:
            return None
        return min(PPM, divided(self.delivered_j * PPM, self.committed_j))

    @property
    def over_ppm(self) -> int | None:
        """By how much more was delivered than promised, of what was promised, 10^-6."""
        if not self.committed_j:
            return None
        return max(0, divided((self.delivered_j - self.committed_j) * PPM, self.committed_j))

    @property
    def unmetered(self) -> int:
        """Number of intervals without a reading."""
        return sum(row.load_w is None for row in self.rows)

    @property
    def is_whole(self) -> bool:
        """Whether each interval has a reading and delivered what was promised."""
        return not self.unmetered and not self.deficiency_j


def delivery_of(
    direction: Direction,
    start_s: int,
    interval_s: int,
    *,
    baseline: Sequence[int],
    load: Sequence[int | None],
    committed: Sequence[int],
) -> Delivery:
    """Return what was delivered.

    Args:
        direction: What was asked for.
        start_s: Start of the event, s since the Unix epoch.
        interval_s: Length of an interval, s.
        baseline: What would have been drawn in each interval, W.
        load: What was drawn, W; None without a reading.
        committed: What was promised, W; not below 0.

    Raises:
        UsageError: They are not of the same length, or a promise is below 0.
    """
    if not len(baseline) == len(load) == len(committed):
        found = f"found {len(baseline)}, {len(load)} and {len(committed)}"
        raise UsageError(f"delivery: asked for one value an interval of each kind, {found}")
    if min(committed, default=0) < 0:
        raise UsageError(f"delivery: asked for promises of 0 W or more, found {min(committed)} W")
    rows = []
    for number, (base_w, load_w, owed_w) in enumerate(zip(baseline, load, committed, strict=True)):
        given_w = 0 if load_w is None else max(0, direction.change_w(base_w, load_w))
        missing_w = max(0, owed_w - given_w)
        rows.append(Row(start_s + number * interval_s, base_w, owed_w, given_w, missing_w, load_w))
    return Delivery(direction, interval_s, tuple(rows))
