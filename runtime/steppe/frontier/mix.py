"""The best points for many replicas and some watts: exact where that is cheap.

Each group of equal replicas is relaxed to the convex hull of its points, whose edges are
bought in the order of worth per watt (Lagrangian relaxation of the multiple-choice knapsack
problem: Kellerer, Pferschy, Pisinger, Knapsack Problems, 2004, chapter 11). All but one
replica of each group then stand on points of the hull; rounding is mended by exchanging two
replicas' points at a time. The cost does not depend on the number of replicas. Fleets so
small that one replica's rounding matters are solved by dynamic programming.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steppe.frontier.exact import TOLERANCE, curve, most_worth, sums_of
from steppe.frontier.exchange import lower_draw, raise_worth
from steppe.frontier.group import Counts, ReplicaGroup, merged
from steppe.frontier.pareto import Frontier
from steppe.frontier.slots import least_with_slots
from steppe.roofline.point import OperatingPoint

Mix = tuple[OperatingPoint, ...]
SMALL_FLEET = 12
"""Up to so many replicas the best plan is searched for where rounding is not proven harmless."""
NEGLIGIBLE = 1e-4
"""Share of the worth that is not worth another exchange."""


def best_mix(frontier: Frontier, replicas: int, draw_w: float) -> Mix | None:
    """Return the points that give the most tokens when `replicas` all run within `draw_w`.

    Returns:
        One point per replica, the largest draw first; None when even the lowest draws more.
    """
    group = ReplicaGroup.awake(frontier, replicas)
    counts = best_counts([group], draw_w)
    return None if counts is None else group.points(counts[0])


def best_counts(groups: Sequence[ReplicaGroup], draw_w: float) -> list[Counts] | None:
    """Return how many replicas of each group stand at each choice for the most worth.

    Args:
        groups: Replicas that share the watts.
        draw_w: Watts for all of them, those that sleep included.

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


def least_counts(group: ReplicaGroup, output_tps: float, slots: int) -> Counts | None:
    """Return the counts with the least draw that cover an output and some sequences.

    Returns:
        Replicas at each choice; None when the whole group does not cover both.
    """
    counts = _least_for(group, output_tps)
    if counts is None or group.slots(counts) >= slots:
        return counts
    return least_with_slots(group, output_tps, slots)


def _least_for(group: ReplicaGroup, output_tps: float) -> Counts | None:
    """Return the counts with the least draw that cover an output; None when none do."""
    counts = group.covering(output_tps)
    if counts is None:
        return None
    counts = lower_draw(group, counts, output_tps)
    bound_w = group.least_for_w(output_tps)
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
    """Lift the lowest replica of each group, which the whole numbers left behind."""
    left_w = draw_w - sum(g.draw_w(c) for g, c in zip(groups, counts, strict=True))
    for group, held in zip(groups, counts, strict=True):
        if not group.replicas:
            continue
        start = int(np.flatnonzero(held)[0])
        ladder = group.ladder
        rises_w = ladder.draws_w - ladder.draws_w[start]
        outputs_tps = group.output_tps(held) + ladder.gives_tps - ladder.gives_tps[start]
        worths = np.where(rises_w <= left_w, group.worths(outputs_tps), -np.inf)
        end = int(np.argmax(worths))
        if worths[end] > worths[start]:
            held[start] -= 1
            held[end] += 1
            left_w -= float(rises_w[end])
    return counts
