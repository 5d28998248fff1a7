"""The draw by steps of 10 s: sums in whole numbers, which no order and no cut of files changes.

A step has a reading if readings cover 95 to 105 % of it. Less is a gap. More is a time that the
clock went through twice, as after it was set back: then nothing is known of it either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from steppe.errors import UsageError
from steppe.grid.history.reading import SiteReading, is_alike
from steppe.grid.verify.load import LEAST_COVER, Load
from steppe.ledger.tariff import divided

STEP_S = 10
MOST_COVER = 2 - LEAST_COVER
"""An interval that readings cover more than this share of has no reading."""


@dataclass(frozen=True, slots=True)
class Sum:
    """What was drawn in a step.

    Attributes:
        energy_uj: Energy, uJ.
        covered_ms: Time that readings cover, ms.
        rank: The least sure source of them, its place in `ENERGY_SOURCES`.
    """

    energy_uj: int
    covered_ms: int
    rank: int

    def plus(self, other: Sum) -> Sum:
        """Return both together."""
        return Sum(
            self.energy_uj + other.energy_uj,
            self.covered_ms + other.covered_ms,
            max(self.rank, other.rank),
        )


Steps = dict[int, Sum]
"""Sums by the number of the step: its begin since the Unix epoch over its length."""


def add_reading(steps: Steps, reading: SiteReading, step_s: int = STEP_S) -> None:
    """Add a reading to the steps that its span touches."""
    step_ms = step_s * 1000
    begin_ms, end_ms = reading.end_ms - reading.span_ms, reading.end_ms
    for number in range(begin_ms // step_ms, -(-end_ms // step_ms)):
        first_ms = max(begin_ms, number * step_ms)
        width_ms = min(end_ms, (number + 1) * step_ms) - first_ms
        add_sum(steps, number, Sum(reading.draw_mw * width_ms, width_ms, reading.rank))


def add_sum(steps: Steps, number: int, more: Sum) -> None:
    """Add a sum to a step."""
    before = steps.get(number)
    steps[number] = more if before is None else before.plus(more)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a site drew over a time.

    Attributes:
        load: Mean draw by interval.
        rank: The least sure source in it, its place in `ENERGY_SOURCES`.
    """

    load: Load
    rank: int


@dataclass(frozen=True, slots=True)
class Span:
    """Which draw is asked for.

    Attributes:
        start_s: Begin, s since the Unix epoch; a multiple of the interval.
        end_s: End, likewise.
        interval_s: Length of an interval, s; a multiple of the step.
        rank: A source: steps of one that is not alike have no reading.
    """

    start_s: int
    end_s: int
    interval_s: int
    rank: int


def parts_of(
    steps: Iterable[tuple[int, Sum]], asked: Span, step_s: int = STEP_S
) -> Iterator[tuple[int, Sum]]:
    """Yield the sums of steps that a span asks for, by the number of its interval.

    Args:
        steps: Sums of steps, in any order; a step may be there in parts.
        asked: Which draw.
        step_s: Length of a step, s.
    """
    each, first, end = asked.interval_s // step_s, asked.start_s // step_s, asked.end_s // step_s
    for number, part in steps:
        if first <= number < end and is_alike(part.rank, asked.rank):
            yield (number - first) // each, part


def drawn_of(parts: Iterable[tuple[int, Sum]], asked: Span) -> Drawn:
    """Return the draw of a span by intervals.

    Args:
        parts: Sums by the number of the interval, in any order.
        asked: Which draw.
    """
    found, size = Steps(), asked.interval_s
    for number, part in parts:
        add_sum(found, number, part)
    known = [found.get(number) for number in range((asked.end_s - asked.start_s) // size)]
    watts = [None if one is None else _mean_w(one, size) for one in known]
    pairs = zip(known, watts, strict=True)
    ranks = (one.rank for one, mean_w in pairs if one is not None and mean_w is not None)
    return Drawn(Load(asked.start_s, size, tuple(watts)), max(ranks, default=asked.rank))


def _mean_w(found: Sum, interval_s: int) -> int | None:
    is_known = LEAST_COVER <= found.covered_ms / (interval_s * 1000) <= MOST_COVER
    return divided(found.energy_uj, found.covered_ms * 1000) if is_known else None


@dataclass(frozen=True, slots=True)
class Columns:
    """Steps that follow on one another, as columns: quick to read and to add up.

    Attributes:
        first: Number of the first step.
        energy_uj: Energy of each, uJ.
        covered_ms: Time that readings cover of each, ms.
        rank: The least sure source of each; of one without a reading, that of the one before.
    """

    first: int
    energy_uj: list[int]
    covered_ms: list[int]
    rank: list[int]

    @property
    def steps(self) -> Steps:
        """The steps that have a reading."""
        rows = zip(self.energy_uj, self.covered_ms, self.rank, strict=True)
        return {n: Sum(*row) for n, row in enumerate(rows, self.first) if row[1]}

    def parts(self, asked: Span) -> Iterator[tuple[int, Sum]]:
        """Yield the sums of the intervals of a span, by their number."""
        each, first = asked.interval_s // STEP_S, asked.start_s // STEP_S
        begin = max(self.first, first)
        end = min(self.first + len(self.rank), asked.end_s // STEP_S)
        for number in range((begin - first) // each, -(-(end - first) // each)):
            low = max(0, first + number * each - self.first)
            high = min(end - self.first, first + (number + 1) * each - self.first)
            if low < high:
                yield from self._sum(number, low, high, asked.rank)

    def _sum(self, number: int, low: int, high: int, rank: int) -> Iterator[tuple[int, Sum]]:
        ranks = self.rank[low:high]
        if all(is_alike(each, rank) for each in set(ranks)):
            energy_uj, covered_ms = sum(self.energy_uj[low:high]), sum(self.covered_ms[low:high])
            yield number, Sum(energy_uj, covered_ms, max(ranks))
            return
        for place in range(low, high):
            if is_alike(self.rank[place], rank):
                yield number, Sum(self.energy_uj[place], self.covered_ms[place], self.rank[place])


def columns_of(steps: Mapping[int, Sum]) -> Columns:
    """Return steps as columns."""
    first, last = min(steps, default=0), max(steps, default=-1)
    found = Columns(first, [], [], [])
    rank = steps[first].rank if steps else 0
    for number in range(first, last + 1):
        each = steps.get(number, Sum(0, 0, rank))
        rank = each.rank
        found.energy_uj.append(each.energy_uj)
        found.covered_ms.append(each.covered_ms)
        found.rank.append(rank)
    return found


def columns_in(plain: Mapping[str, object]) -> Columns:
    """Return the columns of values of JSON.

    Raises:
        UsageError: They are none.
    """
    first, *columns = (plain.get(name) for name in ("first", "energy_uj", "covered_ms", "rank"))
    lists = [each for each in columns if isinstance(each, list)]
    if not isinstance(first, int) or len(lists) != 3 or len({len(each) for each in lists}) != 1:
        raise UsageError("history: asked for a first step and three equal columns, found others")
    if {int}.union(*(map(type, each) for each in lists)) != {int}:
        raise UsageError("history: asked for whole numbers, found others")
    return Columns(first, *lists)
