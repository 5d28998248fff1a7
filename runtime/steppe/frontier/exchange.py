"""Better whole numbers: replace one or two replicas' points where that gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.frontier.group import Counts, Floats, ReplicaGroup

LEAST_GAIN = 1e-9
"""Share of the total below which a gain is a rounding error."""
MOST_PASSES = 32


@dataclass(frozen=True, slots=True)
class Moves:
    """Every way to move one replica of any group, and first to move none.

    Attributes:
        costs: What each move takes of what is scarce; sorted, rising.
        gains: What it gains.
        sources: Number of the occupied choice that it leaves; -1 moves nobody.
        groups: Index of the group.
        starts: The choice that it leaves.
        ends: The choice that it enters.
        alone: Numbers of the occupied choices that only one replica holds.
    """

    costs: Floats
    gains: Floats
    sources: NDArray[np.int64]
    groups: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    alone: tuple[int, ...]

    def best_pair(self, left: float) -> tuple[int, int]:
        """Return the two moves that gain most together at a cost of at most `left`."""
        several = ~np.isin(self.sources, self.alone)
        everything = np.arange(len(self.costs))
        best = self._best(np.flatnonzero(several), everything, left)
        for source in self.alone:
            mine = self.sources == source
            other = np.flatnonzero(~mine)
            best = max(best, self._best(np.flatnonzero(mine), other, left))
        return best[1], best[2]

    def _best(
        self, firsts: NDArray[np.int64], seconds: NDArray[np.int64], left: float
    ) -> tuple[float, int, int]:
        gains, costs = self.gains[seconds], self.costs[seconds]
        highest = np.maximum.accumulate(gains)
        # Of equal gains the first: it costs least.
        is_new = np.diff(highest, prepend=-np.inf) > 0
        best_until = np.maximum.accumulate(np.where(is_new, np.arange(len(gains)), 0))
        fitting = np.searchsorted(costs, left - self.costs[firsts], side="right") - 1
        partners = best_until[np.maximum(fitting, 0)]
        sums = np.where(fitting >= 0, self.gains[firsts] + gains[partners], -np.inf)
        if not len(sums):
            return (-np.inf, 0, 0)
        at = int(np.argmax(sums))
        return float(sums[at]), int(firsts[at]), int(seconds[partners[at]])


def raise_worth(
    groups: Sequence[ReplicaGroup], counts: list[Counts], draw_w: float, enough: float
) -> list[Counts]:
    """Exchange the points of two replicas at a time for more worth within `draw_w`.

    Args:
        groups: The replicas.
        counts: Where they stand, within `draw_w`.
        draw_w: Watts for all of them.
        enough: Worth at which to stop.
    """
    return _improve(groups, counts, _Raise(draw_w, enough))


def lower_draw(group: ReplicaGroup, counts: Counts, output_tps: float) -> Counts:
    """Exchange the points of two replicas at a time for less draw at `output_tps` or more."""
    (lowered,) = _improve([group], [counts], _Lower(output_tps, 0.0))
    return lowered


@dataclass(frozen=True, slots=True)
class _Raise:
    """More worth within a draw."""

    draw_w: float
    enough: float

    def left(self, groups: Sequence[ReplicaGroup], counts: Sequence[Counts]) -> float:
        return self.draw_w - sum(g.draw_w(c) for g, c in zip(groups, counts, strict=True))

    def total(self, groups: Sequence[ReplicaGroup], counts: Sequence[Counts]) -> float:
        return sum(g.worth(g.output_tps(c)) for g, c in zip(groups, counts, strict=True))

    def moves(self, group: ReplicaGroup, counts: Counts, start: int) -> tuple[Floats, Floats]:
        output_tps = group.output_tps(counts)
        outputs_tps = output_tps + group.ladder.gives_tps - group.ladder.gives_tps[start]
        gains = group.worths(outputs_tps) - group.worth(output_tps)
        return group.ladder.draws_w - group.ladder.draws_w[start], gains


@dataclass(frozen=True, slots=True)
class _Lower:
    """Less draw at an output."""

    output_tps: float
    enough: float

    def left(self, groups: Sequence[ReplicaGroup], counts: Sequence[Counts]) -> float:
        return groups[0].output_tps(counts[0]) - self.output_tps

    def total(self, groups: Sequence[ReplicaGroup], counts: Sequence[Counts]) -> float:
        return -groups[0].draw_w(counts[0])

    def moves(self, group: ReplicaGroup, counts: Counts, start: int) -> tuple[Floats, Floats]:
        costs = group.ladder.gives_tps[start] - group.ladder.gives_tps
        return costs, group.ladder.draws_w[start] - group.ladder.draws_w


def _improve(groups: Sequence[ReplicaGroup], counts: list[Counts], aim: _Raise | _Lower) -> list[Counts]:
    total = aim.total(groups, counts)
    for _ in range(MOST_PASSES):
        if total >= aim.enough:
            break
        moves = _moves(groups, counts, aim)
        changed = [c.copy() for c in counts]
        for at in moves.best_pair(aim.left(groups, counts)):
            if moves.sources[at] >= 0:
                changed[moves.groups[at]][moves.starts[at]] -= 1
                changed[moves.groups[at]][moves.ends[at]] += 1
        reached = aim.total(groups, changed)
        # Two moves in one group may gain less together than apart, where its demand ends.
        if reached <= total + LEAST_GAIN * abs(total):
            return counts
        counts, total = changed, reached
    return counts


def _moves(groups: Sequence[ReplicaGroup], counts: Sequence[Counts], aim: _Raise | _Lower) -> Moves:
    costs, gains, sources = [np.zeros(1)], [np.zeros(1)], [np.array([-1])]
    where = [np.zeros((3, 1), dtype=np.int64)]
    alone: list[int] = []
    for index, (group, held) in enumerate(zip(groups, counts, strict=True)):
        for start in np.flatnonzero(held).tolist():
            number = len(sources) - 1
            cost, gain = aim.moves(group, held, start)
            ends = np.arange(len(cost))
            costs.append(cost)
            gains.append(gain)
            sources.append(np.full(len(cost), number))
            where.append(np.stack([np.full(len(cost), index), np.full(len(cost), start), ends]))
            if held[start] == 1:
                alone.append(number)
    all_costs = np.concatenate(costs)
    order = np.argsort(all_costs, kind="stable")
    placed = np.concatenate(where, axis=1)[:, order]
    return Moves(
        all_costs[order],
        np.concatenate(gains)[order],
        np.concatenate(sources)[order],
        placed[0],
        placed[1],
        placed[2],
        tuple(alone),
    )
