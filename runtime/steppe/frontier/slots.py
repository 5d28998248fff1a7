"""The least draw where output and sequences are both asked for: a small integer program.

Without rounding such a plan stands on three choices at most, for a linear program has as many as
rows: output, sequences, replicas. In a large fleet all but a few replicas stay where that puts
them; the few, or a whole small fleet, are searched exactly. HiGHS solves both, through
`scipy.optimize.milp`. The cost does not depend on the number of replicas.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from steppe.frontier.exact import TOLERANCE
from steppe.frontier.group import Counts, Floats, ReplicaGroup

SEARCHED = 12
"""Up to so many replicas are searched whole."""
FREED = 3
"""Replicas of each choice that are searched anew in a larger fleet."""


def least_with_slots(group: ReplicaGroup, output_tps: float, slots: int) -> Counts | None:
    """Return the counts with the least draw that cover an output and some sequences.

    Returns:
        Replicas at each choice; None when the whole group does not cover both.
    """
    ladder = group.ladder
    rows = np.stack([ladder.gives_tps, ladder.batches, np.ones(len(ladder.choices))])
    needed = np.array([output_tps, slots, group.replicas])
    kept = np.zeros(len(ladder.choices))
    if group.replicas > SEARCHED:
        relaxed = _least(ladder.draws_w, rows, needed, whole=False)
        if relaxed is None:
            return None
        kept = np.maximum(0.0, np.floor(relaxed) - FREED)
    few = _least(ladder.draws_w, rows, needed - rows @ kept, whole=True)
    return None if few is None else np.rint(kept + few).astype(np.int64)


def _least(draws_w: Floats, rows: Floats, needed: Floats, *, whole: bool) -> Floats | None:
    """Return how many stand at each choice for the least draw; the last row is met exactly."""
    found = milp(
        draws_w,
        constraints=LinearConstraint(rows, needed, [np.inf, np.inf, needed[-1]]),
        bounds=Bounds(0, np.inf),
        integrality=np.full(len(draws_w), int(whole)),
        options={"mip_rel_gap": TOLERANCE},
    )
    return None if found.x is None else np.asarray(found.x, dtype=np.float64)
