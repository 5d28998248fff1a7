"""Equal replicas that choose among the same points, as arrays that a solver can work on."""

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
"""Where a replica may stand; None is asleep."""

_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class TokenDemand:
    """Output tokens per second that are asked for, and what each token is worth.

    Attributes:
        value: Worth of a token; any unit, the same for all groups.
        output_tps: How many are asked for, tokens/s; `math.inf` for as many as there can be.
    """

    value: float
    output_tps: float


@dataclass(frozen=True, slots=True)
class ConvexPiece:
    """Watts that buy worth at one rate.

    Attributes:
        group: Index of the group.
        per_w: Worth for each watt.
        watts: How many watts buy at this rate, W.
    """

    group: int
    per_w: float
    watts: float


@dataclass(frozen=True, slots=True)
class HullEdge:
    """One edge of a hull.

    Attributes:
        low: The choice where it begins.
        high: The choice where it ends.
        draw_w: How much more a replica draws at its end, W.
        output_tps: How much more it gives, tokens/s.
    """

    low: int
    high: int
    draw_w: float
    output_tps: float


@dataclass(frozen=True, slots=True)
class ReplicaChoices:
    """Where one replica may stand, from the least draw to the most.

    Attributes:
        choices: By rising draw, and so by rising output.
        draws_w: Draw of each choice, W.
        gives_tps: Output of each choice, tokens/s.
        batches: Sequences that each choice decodes at once.
        edges: The upper convex hull of (draw, output), from the lowest choice up.
    """

    choices: tuple[ReplicaChoice, ...]
    draws_w: Floats
    gives_tps: Floats
    batches: Counts
    edges: tuple[HullEdge, ...]


@lru_cache(_REMEMBERED)
def replica_choices(frontier: Frontier, *, with_sleep: bool) -> ReplicaChoices:
    """Return where a replica may stand; remembered, for frontiers seldom change.

    Args:
        frontier: Its operating points.
        with_sleep: Whether it may sleep.
    """
    choices: list[ReplicaChoice] = list(frontier.points)
    if with_sleep:
        # Where sleeping draws more than working, no plan for watts has a use for it.
        choices = [p for p in frontier.points if p.draw_w > frontier.asleep_w]
        is_least = len(choices) == len(frontier.points)
        choices = [None, *choices] if is_least else list(frontier.points)
    draws_w = [frontier.asleep_w if p is None else p.draw_w for p in choices]
    gives_tps = [0.0 if p is None else p.output_tps for p in choices]
    batches = [0 if p is None else p.batch_limit for p in choices]
    edges = tuple(
        HullEdge(a, b, draws_w[b] - draws_w[a], gives_tps[b] - gives_tps[a])
        for a, b in pairwise(_hull(draws_w, gives_tps))
    )
    return ReplicaChoices(tuple(choices), np.array(draws_w), np.array(gives_tps), np.array(batches), edges)


def _hull(draws_w: Sequence[float], gives_tps: Sequence[float]) -> list[int]:
    """Return the indices on the upper convex hull, from the first to the last."""
    hull: list[int] = []
    for at, (draw_w, give_tps) in enumerate(zip(draws_w, gives_tps, strict=True)):
        while len(hull) >= 2:
            a, b = hull[-2], hull[-1]
            rise = (gives_tps[b] - gives_tps[a]) * (draw_w - draws_w[a])
            if rise > (give_tps - gives_tps[a]) * (draws_w[b] - draws_w[a]):
                break
            hull.pop()
        hull.append(at)
    return hull


@dataclass(frozen=True, slots=True)
class ReplicaGroup:
    """Equal replicas that choose among the same points.

    Attributes:
        ladder: Where each may stand.
        replicas: How many replicas there are.
        knots_tps: Total outputs between which a token is worth the same, tokens/s.
        knots_worth: Worth of these outputs; concave, flat after the last.
    """

    replica_choices: ReplicaChoices
    replicas: int
    knots_tps: Floats
    knots_worth: Floats

    @classmethod
    def awake(cls, frontier: Frontier, replicas: int) -> ReplicaGroup:
        """Return replicas that all run; each of their tokens is worth 1."""
        return cls._of(replica_choices(frontier, with_sleep=False), replicas, [TokenDemand(1.0, np.inf)])

    @classmethod
    def awake_or_asleep(cls, frontier: Frontier, replicas: int, wants: Iterable[TokenDemand]) -> ReplicaGroup:
        """Return replicas that run or sleep; `wants` come by falling value."""
        return cls._of(replica_choices(frontier, with_sleep=True), replicas, wants)

    @classmethod
    def _of(cls, replica_choices: ReplicaChoices, replicas: int, wants: Iterable[TokenDemand]) -> ReplicaGroup:
        tps, worth, most_tps = [0.0], [0.0], replicas * float(replica_choices.gives_tps[-1])
        for want in wants:
            more_tps = min(want.output_tps, most_tps - tps[-1])
            if more_tps > 0 and want.value > 0:
                tps.append(tps[-1] + more_tps)
                worth.append(worth[-1] + want.value * more_tps)
        return cls(replica_choices, replicas, np.array(tps), np.array(worth))

    @property
    def least_w(self) -> float:
        """Draw with every replica at the lowest choice, W."""
        return self.replicas * float(self.ladder.draws_w[0])

    @property
    def least_tps(self) -> float:
        """Output with every replica at the lowest choice, tokens/s."""
        return self.replicas * float(self.ladder.gives_tps[0])

    def worth(self, output_tps: float) -> float:
        """Return what a total output is worth."""
        return float(np.interp(output_tps, self.knots_tps, self.knots_worth))

    def worths(self, outputs_tps: Floats) -> Floats:
        """Return what each of several total outputs is worth."""
        return np.interp(outputs_tps, self.knots_tps, self.knots_worth)

    def output_tps(self, counts: Counts) -> float:
        """Return the output of so many replicas at each choice, tokens/s."""
        return float(counts @ self.ladder.gives_tps)

    def draw_w(self, counts: Counts) -> float:
        """Return the draw of so many replicas at each choice, W."""
        return float(counts @ self.ladder.draws_w)

    def slots(self, counts: Counts) -> int:
        """Return how many sequences so many replicas at each choice decode at once."""
        return int(counts @ self.ladder.batches)

    def points(self, counts: Counts) -> tuple[OperatingPoint, ...]:
        """Return the point of each awake replica, the largest draw first."""
        found: list[OperatingPoint] = []
        for at in np.flatnonzero(counts)[::-1].tolist():
            point = self.ladder.choices[at]
            if point is not None:
                found += [point] * int(counts[at])
        return tuple(found)

    def pieces(self, index: int) -> Iterator[ConvexPiece]:
        """Yield what watts buy beyond the lowest choice, by falling rate.

        Each edge of the hull can be bought by every replica; it is cut where the worth of a
        token changes. The last piece is the last that buys anything.
        """
        knots_tps, worth = self.knots_tps.tolist(), self.knots_worth.tolist()
        at, done_tps = 0, self.least_tps
        for edge in self.ladder.edges:
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
        for edge in self.ladder.edges:
            risen = int(left_w / edge.draw_w)
            if risen < self.replicas:
                return self._on(edge, risen)
            left_w -= self.replicas * edge.draw_w
        return self._at(-1)

    def least_for_w(self, output_tps: float) -> float:
        """Return the draw that no plan for an output undercuts, W: that without rounding."""
        draw_w, left_tps = self.least_w, output_tps - self.least_tps
        for edge in self.ladder.edges:
            taken_tps = min(max(0.0, left_tps), self.replicas * edge.output_tps)
            draw_w += edge.draw_w * taken_tps / edge.output_tps
            left_tps -= taken_tps
        return draw_w

    def covering(self, output_tps: float) -> Counts | None:
        """Return the first whole replicas along the hull that cover an output."""
        done_tps = self.least_tps
        if done_tps >= output_tps:
            return self._at(0)
        for edge in self.ladder.edges:
            risen = math.ceil(max(0.0, output_tps - done_tps) / edge.output_tps)
            if risen <= self.replicas:
                return self._on(edge, risen)
            done_tps += self.replicas * edge.output_tps
        return None

    def _on(self, edge: HullEdge, risen: int) -> Counts:
        counts = np.zeros(len(self.ladder.choices), dtype=np.int64)
        counts[edge.high], counts[edge.low] = risen, self.replicas - risen
        return counts

    def _at(self, choice: int) -> Counts:
        counts = np.zeros(len(self.ladder.choices), dtype=np.int64)
        counts[choice] = self.replicas
        return counts


def merged(groups: Sequence[ReplicaGroup]) -> list[ConvexPiece]:
    """Return the pieces of all groups by falling rate: the order in which watts buy most."""
    pieces = [piece for index, group in enumerate(groups) for piece in group.pieces(index)]
    return sorted(pieces, key=lambda piece: -piece.per_w)
