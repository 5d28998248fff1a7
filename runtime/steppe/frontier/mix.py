"""The best operating points for many replicas and a number of watts.

This is the multiple-choice knapsack problem (Kellerer, Pferschy, Pisinger, Knapsack Problems,
2004, chapter 11). Each group of equal replicas is relaxed to the convex hull of its points, and
watts go to the hull's edges in the order of worth per watt. All but one replica of each group
then run at a point of the hull. The loss from rounding is reduced by changing the points of two
replicas at a time. The cost does not depend on the number of replicas. Small fleets, where the
rounding of one replica matters, are solved exactly (`exact`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.frontier.exact import TOLERANCE, curve, least_for_sequences, most_worth, sums_of
from steppe.frontier.group import Counts, Floats, ReplicaGroup, merged
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

Mix = tuple[OperatingPoint, ...]
SMALL_FLEET = 12
"""Fleets up to this size are solved exactly where the bound on the rounding loss is too wide."""
NEGLIGIBLE = 5e-4
"""Share of the bound on worth or draw within which no further exchange is tried."""
LEAST_GAIN = 1e-9
"""Share of the total below which a gain is a rounding error."""
MOST_PASSES = 32


def best_mix(frontier: Frontier, replicas: int, draw_w: float) -> Mix | None:
    """Return the points that give the most tokens when `replicas` all run within `draw_w`.

    Returns:
        One point per replica, the largest draw first; None when even the lowest draws more.
    """
    group = ReplicaGroup.awake(frontier, replicas)
    counts = best_counts([group], draw_w)
    return None if counts is None else group.points(counts[0])


def best_counts(groups: Sequence[ReplicaGroup], draw_w: float) -> list[Counts] | None:
    """Return how many replicas of each group run each choice for the most worth.

    Args:
        groups: Replicas that share the watts.
        draw_w: Watts for all of them, sleeping ones included.

    Returns:
        Counts for each group; None when the lowest choices draw more than `draw_w`.
    """
    least_w = sum(group.least_w for group in groups)
    if least_w > draw_w:
        return None
    counts, bound = _relaxed(groups, draw_w - least_w)
    lifted = _lifted(groups, counts, draw_w)
    counts = raise_worth(groups, lifted, draw_w, bound * (1 - NEGLIGIBLE))
    worth = sum(g.worth(g.output_tps(c)) for g, c in zip(groups, counts, strict=True))
    is_small = sum(group.replicas for group in groups) <= SMALL_FLEET
    if is_small and worth < bound * (1 - TOLERANCE):
        return most_worth(groups, counts, draw_w)
    return counts


def least_counts(group: ReplicaGroup, output_tps: float, sequences: int) -> Counts | None:
    """Return the counts with the least draw that cover an output and a number of sequences.

    Returns:
        Replicas at each choice; None when the whole group does not cover both.
    """
    counts = _least_for(group, output_tps)
    if counts is None or group.batch_limit(counts) >= sequences:
        return counts
    return least_for_sequences(group, output_tps, sequences)


def _least_for(group: ReplicaGroup, output_tps: float) -> Counts | None:
    """Return the counts with the least draw that cover an output; None when none do."""
    counts = group.covering(output_tps)
    if counts is None:
        return None
    bound_w = group.least_for_w(output_tps)
    counts = lower_draw(group, counts, output_tps, bound_w * (1 + NEGLIGIBLE))
    if group.replicas > SMALL_FLEET or group.draw_w(counts) <= bound_w * (1 + TOLERANCE):
        return counts
    sums = sums_of(group, group.draw_w(counts))
    covering = np.flatnonzero(sums.outputs >= output_tps)
    return sums.counts[covering[0]] if len(covering) else counts


def _relaxed(groups: Sequence[ReplicaGroup], watts: float) -> tuple[list[Counts], float]:
    """Return whole replicas along each hull, and the worth that no plan exceeds."""
    pieces = merged(groups)
    least = sum(g.worth(g.least_tps) for g in groups)
    bound = float(np.interp(watts, *curve(pieces, 0.0, least)))
    shares_w, left_w = [0.0] * len(groups), watts
    for piece in pieces:
        taken_w = min(piece.watts, left_w)
        shares_w[piece.group] += taken_w
        left_w -= taken_w
    counts = [g.along_the_hull(share_w) for g, share_w in zip(groups, shares_w, strict=True)]
    return counts, bound


def _lifted(groups: Sequence[ReplicaGroup], counts: list[Counts], draw_w: float) -> list[Counts]:
    """Move the one replica of each group that rounding left at the lowest point as high as fits."""
    left_w = draw_w - sum(g.draw_w(c) for g, c in zip(groups, counts, strict=True))
    for group, held in zip(groups, counts, strict=True):
        if not group.replicas:
            continue
        start = int(np.flatnonzero(held)[0])
        choices = group.choices
        rises_w = choices.draws_w - choices.draws_w[start]
        outputs_tps = group.output_tps(held) + choices.outputs_tps - choices.outputs_tps[start]
        worths = np.where(rises_w <= left_w, group.worths(outputs_tps), -np.inf)
        end = int(np.argmax(worths))
        if worths[end] > worths[start]:
            held[start] -= 1
            held[end] += 1
            left_w -= float(rises_w[end])
    return counts


@dataclass(frozen=True, slots=True)
class Moves:
    """Every way to change the choice of one replica, and first of all not to change any.

    Attributes:
        costs: How much each move takes of the scarce quantity; sorted, rising.
        gains: What it gains.
        sources: Number of the (group, choice) pair that it leaves; -1 for no move.
        groups: Index of the group.
        starts: Index of the choice that it leaves.
        ends: Index of the choice that it enters.
        alone: Numbers of the (group, choice) pairs with only one replica.
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
        counts: Replicas at each choice now, within `draw_w`.
        draw_w: Watts for all of them.
        enough: Worth at which to stop.
    """
    return _improve(groups, counts, _Raise(draw_w, enough))


def lower_draw(
    group: ReplicaGroup, counts: Counts, output_tps: float, enough_w: float = 0.0
) -> Counts:
    """Exchange the points of two replicas at a time for less draw at `output_tps` or more.

    Args:
        group: The replicas.
        counts: Replicas at each choice now.
        output_tps: Output to keep, tokens/s.
        enough_w: Draw at which to stop, W.
    """
    (lowered,) = _improve([group], [counts], _Lower(output_tps, -enough_w))
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
        outputs_tps = output_tps + group.choices.outputs_tps - group.choices.outputs_tps[start]
        gains = group.worths(outputs_tps) - group.worth(output_tps)
        return group.choices.draws_w - group.choices.draws_w[start], gains


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
        costs = group.choices.outputs_tps[start] - group.choices.outputs_tps
        return costs, group.choices.draws_w[start] - group.choices.draws_w


def _improve(
    groups: Sequence[ReplicaGroup], counts: list[Counts], aim: _Raise | _Lower
) -> list[Counts]:
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
