"""Exact solutions for small fleets.

For the most worth within some watts: dynamic programming over every sum of points that no other
sum beats. For the least draw that covers both an output and a number of sequences: an integer
program, solved by HiGHS through `scipy.optimize.milp`. Without rounding such a plan uses at most
three choices, because a linear program has as many as rows (output, sequences, replicas). In a
large fleet only a few replicas of each choice are searched anew; the others stay where the linear
program puts them. The cost does not depend on the number of replicas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from steppe.frontier.group import ConvexPiece, Counts, Floats, ReplicaGroup, merged

MOST_SUMS = 400
"""Most sums kept of a group; with more, the best of each of this many equal bins of draw."""
TOLERANCE = 1e-3
"""Share of the worth within which a plan is taken as the best."""
SEARCHED = 12
"""Fleets up to this size are searched whole."""
FREED = 3
"""Replicas of each choice that are searched anew in a larger fleet."""


@dataclass(frozen=True, slots=True)
class ReachableSums:
    """Draws and outputs that some replicas can reach together; none beats another.

    Attributes:
        draws_w: Rising, W.
        outputs: Rising: tokens/s of one group, or worth of several.
        counts: Replicas at each choice, one row a sum; for several groups the sum of each.
    """

    draws_w: Floats
    outputs: Floats
    counts: Counts

    def keep(self, draw_w: float) -> ReachableSums:
        """Return what no other sum beats within `draw_w`, thinned to bins of draw."""
        order = np.lexsort((-self.outputs, self.draws_w))
        order = order[: np.searchsorted(self.draws_w[order], draw_w, side="right")]
        outputs = self.outputs[order]
        before = np.maximum.accumulate(np.concatenate([[-np.inf], outputs[:-1]]))
        order = order[outputs > before[: len(outputs)]]
        if len(order) > MOST_SUMS:
            draws = self.draws_w[order]
            bins = ((draws - draws[0]) / (draws[-1] - draws[0]) * MOST_SUMS).astype(np.int64)
            # Within a bin the last gives most; its own draw counts, so no sum exceeds the budget.
            order = order[np.flatnonzero(np.diff(bins, append=bins[-1] + 1))]
        return self.at(order)

    def at(self, order: Counts) -> ReachableSums:
        """Return some of the sums."""
        return ReachableSums(self.draws_w[order], self.outputs[order], self.counts[order])


def sums_of(group: ReplicaGroup, draw_w: float) -> ReachableSums:
    """Return what the replicas of a group can reach within `draw_w`, exact to a bin of draw."""
    width = len(group.choices.points)
    sums = ReachableSums(np.zeros(1), np.zeros(1), np.zeros((1, width), dtype=np.int64))
    one_more = np.eye(width, dtype=np.int64)
    for left in range(group.replicas - 1, -1, -1):
        grown = ReachableSums(
            (sums.draws_w[:, None] + group.choices.draws_w).ravel(),
            (sums.outputs[:, None] + group.choices.outputs_tps).ravel(),
            (sums.counts[:, None] + one_more).reshape(-1, width),
        )
        sums = grown.keep(draw_w - left * float(group.choices.draws_w[0]))
    return sums


def most_worth(groups: Sequence[ReplicaGroup], counts: list[Counts], draw_w: float) -> list[Counts]:
    """Return the counts with the most worth within `draw_w`, or those given if none has more.

    Group by group; a sum that could not beat `counts` by more than the tolerance, even if the
    groups to come were bought without rounding, is dropped.
    """
    found = [sums_of(g, draw_w - sum(o.least_w for o in groups if o is not g)) for g in groups]
    target = sum(g.worth(g.output_tps(c)) for g, c in zip(groups, counts, strict=True))
    target *= 1 + TOLERANCE
    reached = ReachableSums(np.zeros(1), np.zeros(1), np.zeros((1, 0), dtype=np.int64))
    for index, (group, sums) in enumerate(zip(groups, found, strict=True)):
        rest = groups[index + 1 :]
        grown = ReachableSums(
            (reached.draws_w[:, None] + sums.draws_w).ravel(),
            (reached.outputs[:, None] + group.worths(sums.outputs)).ravel(),
            _with_choice(reached.counts, len(sums.draws_w)),
        )
        bound = grown.outputs + _most_of(rest, draw_w - grown.draws_w)
        promising = grown.at(np.flatnonzero(bound > target))
        reached = promising.keep(draw_w - sum(other.least_w for other in rest))
    if not len(reached.outputs):
        return counts
    chosen = reached.counts[-1].tolist()
    return [sums.counts[at] for sums, at in zip(found, chosen, strict=True)]


def _with_choice(chosen: Counts, choices: int) -> Counts:
    """Append to each row every index below `choices`."""
    rows = np.repeat(chosen, choices, axis=0)
    return np.column_stack([rows, np.tile(np.arange(choices), len(chosen))])


def _most_of(groups: Sequence[ReplicaGroup], draws_w: Floats) -> Floats:
    """Return what watts for some groups are worth at most, without rounding."""
    least_w = sum(group.least_w for group in groups)
    least = sum(group.worth(group.least_tps) for group in groups)
    watts, worths = curve(merged(groups), least_w, least)
    return np.where(draws_w >= least_w - 1e-9, np.interp(draws_w, watts, worths), -np.inf)


def curve(pieces: Sequence[ConvexPiece], least_w: float, least: float) -> tuple[Floats, Floats]:
    """Return watts, rising, and the worth that they buy, linear between them."""
    watts = np.cumsum([least_w] + [piece.watts for piece in pieces])
    worths = np.cumsum([least] + [piece.watts * piece.per_w for piece in pieces])
    return watts, worths


def least_for_sequences(group: ReplicaGroup, output_tps: float, sequences: int) -> Counts | None:
    """Return the counts with the least draw that cover an output and a number of sequences.

    Returns:
        Replicas at each choice; None when the whole group does not cover both.
    """
    choices = group.choices
    rows = np.stack([choices.outputs_tps, choices.batch_limits, np.ones(len(choices.points))])
    needed = np.array([output_tps, sequences, group.replicas])
    kept = np.zeros(len(choices.points))
    if group.replicas > SEARCHED:
        relaxed = _least(choices.draws_w, rows, needed, whole=False)
        if relaxed is None:
            return None
        kept = np.maximum(0.0, np.floor(relaxed) - FREED)
    few = _least(choices.draws_w, rows, needed - rows @ kept, whole=True)
    return None if few is None else np.rint(kept + few).astype(np.int64)


def _least(draws_w: Floats, rows: Floats, needed: Floats, *, whole: bool) -> Floats | None:
    """Return how many replicas run each choice for the least draw; the last row is met exactly."""
    found = milp(
        draws_w,
        constraints=LinearConstraint(rows, needed, [np.inf, np.inf, needed[-1]]),
        bounds=Bounds(0, np.inf),
        integrality=np.full(len(draws_w), int(whole)),
        options={"mip_rel_gap": TOLERANCE},
    )
    return None if found.x is None else np.asarray(found.x, dtype=np.float64)
