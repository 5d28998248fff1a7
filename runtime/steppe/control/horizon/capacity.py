"""How many tokens watts give: the convex hull of the operating points of equal replicas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.frontier.group import replica_choices
from steppe.frontier.pareto import Frontier

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Capacity:
    """The output of some replicas on any number of watts, if they could be divided at will.

    Attributes:
        draws_w: Draws at the corners of the hull, W; the first is that of the sleeping replicas.
        outputs_tps: Output tokens per second there.
    """

    draws_w: Floats
    outputs_tps: Floats

    @classmethod
    def of(cls, frontier: Frontier, replicas: int) -> Capacity:
        """Return the capacity of equal replicas."""
        choices = replica_choices(frontier, with_sleep=True)
        corners = [0, *(edge.high for edge in choices.edges)]
        return cls(replicas * choices.draws_w[corners], replicas * choices.outputs_tps[corners])

    @property
    def most_tps(self) -> float:
        """Output on any number of watts, tokens/s."""
        return float(self.outputs_tps[-1])

    def tps(self, watts: Floats) -> Floats:
        """Return the most output tokens per second on so many watts."""
        found = np.interp(watts, self.draws_w, self.outputs_tps, left=0.0)
        return np.asarray(found, dtype=np.float64)

    def watts(self, tps: float) -> float:
        """Return the least draw that gives an output, W; that of full replicas beyond it."""
        return float(np.interp(tps, self.outputs_tps, self.draws_w))
