"""The operating points of a pool for the requests that come now."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.control.state import Observation
from steppe.frontier.at_lengths import LatencyLimits, PointsAtLengths, PointsNeed, points_at
from steppe.frontier.pareto import Frontier


@dataclass(frozen=True, slots=True)
class LengthPoints:
    """Gives the points for the mean request of an observation.

    Attributes:
        frontier: Operating points for one length of requests, with the costs of a step.
        limits: The SLO.
    """

    frontier: Frontier
    limits: LatencyLimits

    @classmethod
    def of(cls, frontier: Frontier, limits: LatencyLimits) -> LengthPoints | None:
        """Return the points of a frontier; None if the costs of a step are not known."""
        return None if frontier.costs is None else cls(frontier, limits)

    def now(self, observation: Observation) -> PointsAtLengths | None:
        """Return the points for the requests that come now; None if those are not known."""
        lengths = observation.lengths or self.frontier.lengths
        if lengths is None:
            return None
        need = PointsNeed(
            lengths=lengths,
            limits=self.limits,
            batch_limit=self.frontier.largest_batch,
            replicas=_rounded(observation.counts.awake),
            factors=observation.learned.factors,
            tokens_per_step=observation.learned.tokens_per_step,
        )
        return points_at(self.frontier, need)


def _rounded(replicas: int) -> int:
    """Return the power of two at or below a number of replicas, so that few points are computed.

    Fewer replicas that serve a queue keep it waiting longer, so this is on the safe side.
    """
    return 1 << max(1, replicas).bit_length() - 1
