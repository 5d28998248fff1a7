"""Equal replicas with the same operating points, as arrays for a solver."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
ReplicaChoice = OperatingPoint | None
"""What one replica may run; None is asleep."""

_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class TokenDemand:
    """Output tokens per second that are in demand, and what each token is worth.

    Attributes:
        value: Worth of a token; any unit, the same for all groups.
        output_tps: How many are in demand, tokens/s; `math.inf` for no limit.
    """

    value: float
    output_tps: float


@dataclass(frozen=True, slots=True)
class ConvexPiece:
    """Watts that add worth at a constant rate.

    Attributes:
        group: Index of the group.
        per_w: Worth added by each watt.
        watts: How many watts have this rate, W.
    """

    group: int
    per_w: float
    watts: float


@dataclass(frozen=True, slots=True)
class HullEdge:
    """One edge of the upper convex hull of a replica's choices.

    Attributes:
        low: Index of the choice at its start.
        high: Index of the choice at its end.
        draw_w: Additional draw at its end, W.
        output_tps: Additional output at its end, tokens/s.
    """

    low: int
    high: int
    draw_w: float
    output_tps: float


@dataclass(frozen=True, slots=True)
class ReplicaChoices:
    """What one replica may run, from the least draw to the most.

    Attributes:
        points: By rising draw, and so by rising output.
        draws_w: Draw of each choice, W.
        outputs_tps: Output of each choice, tokens/s.
        batch_limits: Sequences that each choice decodes at once.
        edges: The upper convex hull of (draw, output), from the lowest choice up.
    """

    points: tuple[ReplicaChoice, ...]
    draws_w: Floats
    outputs_tps: Floats
    batch_limits: Counts
    edges: tuple[HullEdge, ...]


@lru_cache(_REMEMBERED)
def replica_choices(frontier: Frontier, *, with_sleep: bool) -> ReplicaChoices:
    """Return what a replica may run; cached, because frontiers rarely change.

    Args:
        frontier: Its operating points.
        with_sleep: Whether it may sleep.
    """
    points: list[ReplicaChoice] = list(frontier.points)
    # Where a sleeping replica draws more than a working one, no plan gains from sleep.
    if with_sleep and frontier.floor.draw_w > frontier.asleep_w:
        points = [None, *points]
    draws_w = [frontier.asleep_w if p is None else p.draw_w for p in points]
    outputs_tps = [0.0 if p is None else p.output_tps for p in points]
    batch_limits = [0 if p is None else p.batch_limit for p in points]
    edges = tuple(
        HullEdge(a, b, draws_w[b] - draws_w[a], outputs_tps[b] - outputs_tps[a])
        for a, b in pairwise(_hull(draws_w, outputs_tps))
    )
    return ReplicaChoices(
        points=tuple(points),
        draws_w=np.array(draws_w),
        outputs_tps=np.array(outputs_tps),
        batch_limits=np.array(batch_limits),
        edges=edges,
    )


def _hull(draws_w: Sequence[float], outputs_tps: Sequence[float]) -> list[int]:
    """Return the indices on the upper convex hull, from the first to the last."""
    hull: list[int] = []
    for at, (draw_w, output_tps) in enumerate(zip(draws_w, outputs_tps, strict=True)):
        while len(hull) >= 2:
            a, b = hull[-2], hull[-1]
            rise = (outputs_tps[b] - outputs_tps[a]) * (draw_w - draws_w[a])
            if rise > (output_tps - outputs_tps[a]) * (draws_w[b] - draws_w[a]):
                break
            hull.pop()
        hull.append(at)
    return hull


@dataclass(frozen=True, slots=True)
class ReplicaGroup:
    """Equal replicas with the same choices.

    Attributes:
        choices: What each may run.
        replicas: Number of replicas.
        knots_tps: Total outputs between which a token is worth the same, tokens/s.
        knots_worth: Worth of these outputs; concave, flat after the last.
    """

    choices: ReplicaChoices
    replicas: int
    knots_tps: Floats
    knots_worth: Floats

    @classmethod
    def awake(cls, frontier: Frontier, replicas: int) -> ReplicaGroup:
        """Return replicas that all run; each of their tokens is worth 1."""
        choices = replica_choices(frontier, with_sleep=False)
        return cls._of(choices, replicas, [TokenDemand(1.0, np.inf)])

    @classmethod
    def awake_or_asleep(
        cls, frontier: Frontier, replicas: int, demands: Iterable[TokenDemand]
    ) -> ReplicaGroup:
        """Return replicas that run or sleep; `demands` come by falling value."""
        return cls._of(replica_choices(frontier, with_sleep=True), replicas, demands)

    @classmethod
    def _of(
        cls, choices: ReplicaChoices, replicas: int, demands: Iterable[TokenDemand]
    ) -> ReplicaGroup:
        tps, worth, most_tps = [0.0], [0.0], replicas * float(choices.outputs_tps[-1])
        for demand in demands:
            more_tps = min(demand.output_tps, most_tps - tps[-1])
            if more_tps > 0 and demand.value > 0:
                tps.append(tps[-1] + more_tps)
                worth.append(worth[-1] + demand.value * more_tps)
        return cls(choices, replicas, np.array(tps), np.array(worth))

    @property
    def least_w(self) -> float:
        """Draw with every replica at the lowest choice, W."""
        return self.replicas * float(self.choices.draws_w[0])

    @property
    def least_tps(self) -> float:
        """Output with every replica at the lowest choice, tokens/s."""
        return self.replicas * float(self.choices.outputs_tps[0])

    def worth(self, output_tps: float) -> float:
        """Return what a total output is worth."""
        return float(np.interp(output_tps, self.knots_tps, self.knots_worth))

    def worths(self, outputs_tps: Floats) -> Floats:
        """Return what each of several total outputs is worth."""
        return np.interp(outputs_tps, self.knots_tps, self.knots_worth)

    def output_tps(self, counts: Counts) -> float:
        """Return the total output of these replicas, tokens/s."""
        return float(counts @ self.choices.outputs_tps)

    def draw_w(self, counts: Counts) -> float:
        """Return the total draw of these replicas, W."""
        return float(counts @ self.choices.draws_w)

    def batch_limit(self, counts: Counts) -> int:
        """Return how many sequences these replicas decode at once."""
        return int(counts @ self.choices.batch_limits)

    def points(self, counts: Counts) -> tuple[OperatingPoint, ...]:
        """Return the point of each awake replica, the largest draw first."""
        found: list[OperatingPoint] = []
        for at in np.flatnonzero(counts)[::-1].tolist():
            point = self.choices.points[at]
            if point is not None:
                found += [point] * int(counts[at])
        return tuple(found)

    def pieces(self, index: int) -> Iterator[ConvexPiece]:
        """Yield what watts add beyond the lowest choice, by falling rate.

        Every replica can move along each edge of the hull; the edge is cut where the worth of a
        token changes. Pieces without worth are left out.
        """
        knots_tps, worth = self.knots_tps.tolist(), self.knots_worth.tolist()
        at, done_tps = 0, self.least_tps
        for edge in self.choices.edges:
            end_tps = done_tps + self.replicas * edge.output_tps
            while done_tps < end_tps:
                while at + 1 < len(knots_tps) and knots_tps[at + 1] <= done_tps:
                    at += 1
                if at + 1 == len(knots_tps):
                    return
                until_tps = min(end_tps, knots_tps[at + 1])
                value = (worth[at + 1] - worth[at]) / (knots_tps[at + 1] - knots_tps[at])
                w_per_tps = edge.draw_w / edge.output_tps
                yield ConvexPiece(index, value / w_per_tps, w_per_tps * (until_tps - done_tps))
                done_tps = until_tps

    def along_the_hull(self, watts: float) -> Counts:
        """Return whole replicas along the hull for `watts` beyond the lowest choice."""
        left_w = watts
        for edge in self.choices.edges:
            risen = int(left_w / edge.draw_w)
            if risen < self.replicas:
                return self._on(edge, risen)
            left_w -= self.replicas * edge.draw_w
        return self._at(-1)

    def least_for_w(self, output_tps: float) -> float:
        """Return the least draw for an output without rounding to whole replicas, W: a bound."""
        draw_w, left_tps = self.least_w, output_tps - self.least_tps
        for edge in self.choices.edges:
            taken_tps = min(max(0.0, left_tps), self.replicas * edge.output_tps)
            draw_w += edge.draw_w * taken_tps / edge.output_tps
            left_tps -= taken_tps
        return draw_w

    def covering(self, output_tps: float) -> Counts | None:
        """Return the first whole replicas along the hull that cover an output."""
        done_tps = self.least_tps
        if done_tps >= output_tps:
            return self._at(0)
        for edge in self.choices.edges:
            risen = math.ceil(max(0.0, output_tps - done_tps) / edge.output_tps)
            if risen <= self.replicas:
                return self._on(edge, risen)
            done_tps += self.replicas * edge.output_tps
        return None

    def _on(self, edge: HullEdge, risen: int) -> Counts:
        counts = np.zeros(len(self.choices.points), dtype=np.int64)
        counts[edge.high], counts[edge.low] = risen, self.replicas - risen
        return counts

    def _at(self, choice: int) -> Counts:
        counts = np.zeros(len(self.choices.points), dtype=np.int64)
        counts[choice] = self.replicas
        return counts


def merged(groups: Sequence[ReplicaGroup]) -> list[ConvexPiece]:
    """Return the pieces of all groups by falling rate: the order in which watts buy most."""
    pieces = [piece for index, group in enumerate(groups) for piece in group.pieces(index)]
    return sorted(pieces, key=lambda piece: -piece.per_w)
