"""The operating points worth running."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from steppe.errors import InfeasibleError
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.point import OperatingPoint
from steppe.roofline.step_costs import StepCosts


@dataclass(frozen=True)
class Frontier:
    """Operating points that no other point beats in both draw and tokens.

    Attributes:
        points: Sorted by rising draw, and so by rising output.
        asleep_w: Draw of a replica that sleeps, W.
        idle_w: Draw of an awake replica without work, at the lowest clock, W.
        source: `measured`, `emulated` or `modelled`.
        quicker: Points that others beat in both, but none of those also in time per token: with
            an SLO for that they may be the best.
        costs: What a step costs, from which points for other requests follow; None if unknown.
        lengths: The mean request that the points hold for; None if unknown.
    """

    points: tuple[OperatingPoint, ...]
    asleep_w: float
    idle_w: float
    source: str
    quicker: tuple[OperatingPoint, ...] = ()
    costs: StepCosts | None = None
    lengths: RequestLengths | None = None

    @classmethod
    def of(
        cls, candidates: Iterable[OperatingPoint], asleep_w: float, idle_w: float, source: str
    ) -> Frontier:
        """Keep the efficient points among `candidates`.

        Raises:
            InfeasibleError: No candidate gives tokens.
        """
        kept: list[OperatingPoint] = []
        beaten: list[OperatingPoint] = []
        for point in sorted(candidates, key=lambda p: (p.draw_w, -p.output_tps, p.tpot_s)):
            is_better = point.output_tps > (kept[-1].output_tps if kept else 0.0)
            (kept if is_better else beaten).append(point)
        if not kept:
            raise InfeasibleError(
                "asked for a frontier, found no operating point that gives tokens"
            )
        return cls(tuple(kept), asleep_w, idle_w, source, _quicker(kept, beaten))

    def __hash__(self) -> int:
        """Return a hash that is computed once: plans are cached by frontier."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.points, self.asleep_w, self.idle_w, self.costs, self.lengths))

    def with_points(self, points: Iterable[OperatingPoint]) -> Frontier:
        """Return the frontier of other points of the same replica.

        Raises:
            InfeasibleError: None of them gives tokens.
        """
        found = Frontier.of(points, self.asleep_w, self.idle_w, self.source)
        return found.with_costs(self.costs, self.lengths)

    def with_costs(self, costs: StepCosts | None, lengths: RequestLengths | None) -> Frontier:
        """Return the same points, with what a step costs and the mean request they hold for."""
        return replace(self, costs=costs, lengths=lengths)

    @property
    def candidates(self) -> tuple[OperatingPoint, ...]:
        """Every point that is the best for some draw, output and time per token."""
        return (*self.points, *self.quicker)

    def unlimited_at(self, highest_mhz: int) -> Frontier:
        """Return the frontier with this clock, MHz, at points without a clock limit."""

        def at_highest(points: Iterable[OperatingPoint]) -> tuple[OperatingPoint, ...]:
            return tuple(replace(p, clock_mhz=p.clock_mhz or highest_mhz) for p in points)

        points, quicker = at_highest(self.points), at_highest(self.quicker)
        costs = self.costs and self.costs.unlimited_at(highest_mhz)
        return replace(self, points=points, quicker=quicker, costs=costs)

    @cached_property
    def largest_batch(self) -> int:
        """The largest batch limit of a point."""
        return max(point.batch_limit for point in self.candidates)

    @property
    def floor(self) -> OperatingPoint:
        """The point with the least draw."""
        return self.points[0]

    @property
    def full(self) -> OperatingPoint:
        """The point with the most tokens."""
        return self.points[-1]

    @property
    def full_batch(self) -> Frontier:
        """The points with the largest batch limit."""
        largest = max(point.batch_limit for point in self.points)
        points = [point for point in self.points if point.batch_limit == largest]
        return self.with_points(points)

    @property
    def drain(self) -> OperatingPoint:
        """The point for a draining replica, at which no request is held."""
        return self.full_batch.floor


def _quicker(
    kept: Sequence[OperatingPoint], beaten: Sequence[OperatingPoint]
) -> tuple[OperatingPoint, ...]:
    """Return the beaten points that no other beats in draw, tokens and time per token at once.

    Args:
        kept: Points that no other beats in draw and tokens.
        beaten: The others, by rising draw, then falling output, then rising time per token.
    """
    found: list[OperatingPoint] = []
    for point in beaten:
        rivals = (p for p in (*kept, *found) if p.draw_w <= point.draw_w)
        if not any(p.output_tps >= point.output_tps and p.tpot_s <= point.tpot_s for p in rivals):
            found.append(point)
    return tuple(found)
