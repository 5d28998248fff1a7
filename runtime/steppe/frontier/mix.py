"""The best mix of operating points for some equal replicas and some watts."""

from __future__ import annotations

from collections import Counter
from itertools import combinations_with_replacement, pairwise

import numpy as np

from steppe.frontier.pareto import Frontier
from steppe.frontier.point import OperatingPoint

Mix = tuple[OperatingPoint, ...]


def best_mix(frontier: Frontier, replicas: int, draw_w: float) -> Mix | None:
    """Return the points that give the most tokens when `replicas` all run within `draw_w`.

    Along the convex hull all replicas rise together, edge by edge (reference: Lagrangian
    relaxation of the multiple-choice knapsack; all but one replica stand on hull points).
    What is left over then goes to the best exchange of any two points, which is exact for
    two replicas.

    Returns:
        One point per replica, the largest draw first; None when even the lowest draws more.
    """
    if replicas * frontier.floor.draw_w > draw_w:
        return None
    counts = _along_the_hull(frontier.hull, replicas, draw_w)
    mix = _exchange(frontier, counts, draw_w)
    return tuple(sorted(mix.elements(), key=lambda point: -point.draw_w))


def _along_the_hull(hull: Mix, replicas: int, draw_w: float) -> Counter[OperatingPoint]:
    left_w = draw_w - replicas * hull[0].draw_w
    for low, high in pairwise(hull):
        step_w = high.draw_w - low.draw_w
        risen = min(replicas, int(left_w / step_w))
        if risen < replicas:
            return Counter({high: risen, low: replicas - risen})
        left_w -= replicas * step_w
    return Counter({hull[-1]: replicas})


def _exchange(
    frontier: Frontier, counts: Counter[OperatingPoint], draw_w: float
) -> Counter[OperatingPoint]:
    """Replace the one or two points whose replacement gains most, until none gains."""
    counts = +counts
    draws = np.array([point.draw_w for point in frontier.points])
    gives = np.array([point.output_tps for point in frontier.points])
    pair_draws, pair_gives = draws[:, None] + draws, gives[:, None] + gives
    while True:
        left_w = draw_w - sum(point.draw_w * n for point, n in counts.items())
        best_gain, best = 1e-9, None
        for a, b in _pairs(counts):
            fits = pair_draws <= a.draw_w + b.draw_w + left_w
            at = int(np.argmax(np.where(fits, pair_gives, -1.0)))
            gain = pair_gives.flat[at] - a.output_tps - b.output_tps
            if gain > best_gain:
                best_gain, best = gain, ((a, b), divmod(at, len(draws)))
        if best is None:
            return _lift_one(frontier, counts, left_w)
        (old, (i, j)) = best
        counts = counts - Counter(old) + Counter((frontier.points[i], frontier.points[j]))


def _pairs(counts: Counter[OperatingPoint]) -> list[tuple[OperatingPoint, OperatingPoint]]:
    return [(a, b) for a, b in combinations_with_replacement(counts, 2) if a != b or counts[a] >= 2]


def _lift_one(
    frontier: Frontier, counts: Counter[OperatingPoint], left_w: float
) -> Counter[OperatingPoint]:
    """Lift a lone replica to the best point that still fits."""
    if counts.total() != 1:
        return counts
    (point,) = counts
    fitting = [p for p in frontier.points if p.draw_w <= point.draw_w + left_w]
    return Counter([fitting[-1]])
