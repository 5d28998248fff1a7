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


def add_steps(steps: Steps, more: Mapping[int, Sum]) -> None:
    """Add the sums of other steps."""
    for number, each in more.items():
        add_sum(steps, number, each)


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


def drawn_of(steps: Iterable[tuple[int, Sum]], asked: Span, step_s: int = STEP_S) -> Drawn:
    """Return the draw of a span by intervals.

    Args:
        steps: Sums of steps, in any order; a step may be there in parts.
        asked: Which draw.
        step_s: Length of a step, s.

    Raises:
        UsageError: An interval is no whole number of steps.
    """
    size = asked.interval_s
    if size % step_s:
        found = f"found {size} s"
        raise UsageError(f"history: asked for intervals of a multiple of {step_s} s, {found}")
    each, found_in = size // step_s, Steps()
    first, end = asked.start_s // step_s, asked.end_s // step_s
    for number, part in steps:
        if first <= number < end and is_alike(part.rank, asked.rank):
            add_sum(found_in, (number - first) // each, part)
    known = [found_in.get(number) for number in range((end - first) // each)]
    watts = [None if one is None else _mean_w(one, size) for one in known]
    pairs = zip(known, watts, strict=True)
    ranks = (one.rank for one, mean_w in pairs if one is not None and mean_w is not None)
    return Drawn(Load(asked.start_s, size, tuple(watts)), max(ranks, default=asked.rank))


def _mean_w(found: Sum, interval_s: int) -> int | None:
    is_known = LEAST_COVER <= found.covered_ms / (interval_s * 1000) <= MOST_COVER
    return divided(found.energy_uj, found.covered_ms * 1000) if is_known else None


def plain_of(steps: Mapping[int, Sum]) -> dict[str, object]:
    """Return steps as values for JSON."""
    first, last = min(steps, default=0), max(steps, default=-1)
    sums = [steps.get(number, Sum(0, 0, 0)) for number in range(first, last + 1)]
    return {
        "first": first,
        "energy_uj": [each.energy_uj for each in sums],
        "covered_ms": [each.covered_ms for each in sums],
        "rank": [each.rank for each in sums],
    }


def steps_in(plain: Mapping[str, object]) -> Steps:
    """Return the steps of such values.

    Raises:
        UsageError: They are none.
    """
    return dict(_steps_in(plain))


def _steps_in(plain: Mapping[str, object]) -> Iterator[tuple[int, Sum]]:
    first, *columns = (plain.get(name) for name in ("first", "energy_uj", "covered_ms", "rank"))
    lists = [each for each in columns if isinstance(each, list)]
    if not isinstance(first, int) or len(lists) != 3 or len({len(each) for each in lists}) != 1:
        raise UsageError("history: asked for a first step and three equal columns, found others")
    if {int}.union(*(map(type, each) for each in lists)) != {int}:
        raise UsageError("history: asked for whole numbers, found others")
    for number, (energy_uj, covered_ms, rank) in enumerate(zip(*lists, strict=True), first):
        if covered_ms:
            yield number, Sum(energy_uj, covered_ms, rank)
