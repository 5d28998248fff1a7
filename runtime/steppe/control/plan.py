"""The target state of the fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from steppe.control.batch_work import BatchPace
from steppe.control.sleep_ladder import SleepDepth
from steppe.control.state import NOTHING_LEARNED, Learned
from steppe.frontier.mix import Mix


@dataclass(frozen=True, slots=True)
class AwakeBounds:
    """How many replicas may be awake.

    Attributes:
        least: Least number.
        most: Largest number.
    """

    least: int
    most: int

    def at_most(self, most: int) -> AwakeBounds:
        """Return the bounds with no more than this number."""
        return AwakeBounds(min(self.least, most), min(self.most, most))

    def nearest(self, awake: int) -> int:
        """Return the number within the bounds that is nearest to `awake`."""
        return min(max(awake, self.least), self.most)


@dataclass(frozen=True, slots=True)
class Plan:
    """Target of the fleet until the next tick.

    Attributes:
        awake: The operating point of each serving replica, the largest draw first; the other
            replicas sleep.
        draw_w: Draw of the whole fleet at saturation, W.
        draining: How many other replicas may finish their requests meanwhile.
        feasible: False if even a sleeping fleet draws more than the budget.
        holds: Whether batch limits bind running requests, too, which are then held in turns;
            otherwise they bind new requests only.
        battery_w: What the battery gives from now on, W at the GPUs; negative to charge; None if
            it follows its own rule.
        learned: What the policy has learned; for metrics.
        deepen: Replicas that go to a deeper sleep, each with its depth.
        restore: Replicas that come back from a sleep deeper than a pause.
        pools: The plan of each pool, by its name; empty where there is only one. The other fields
            are then those of all pools together.
        moves: Replicas that go to another pool once they have no request, each with that pool.
        variants: The share of each model in the requests for each alias, by its name.
        share_w: The share of its pool in the budget, W; 0 where there is only one.
        batch: The pace of each batch job, by its key.
    """

    awake: Mix
    draw_w: float
    draining: int = 0
    feasible: bool = True
    holds: bool = True
    battery_w: float | None = None
    learned: Learned = NOTHING_LEARNED
    deepen: tuple[tuple[str, SleepDepth], ...] = ()
    restore: tuple[str, ...] = ()
    pools: Mapping[str, Plan] = field(default_factory=dict)
    share_w: float = 0.0
    moves: tuple[tuple[str, str], ...] = ()
    variants: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    batch: Mapping[str, BatchPace] = field(default_factory=dict)

    @property
    def output_tps(self) -> float:
        """Output tokens per second that the plan serves at saturation."""
        return sum([point.output_tps for point in self.awake])

    @property
    def slots(self) -> int:
        """Most sequences that the plan decodes at once."""
        return sum(point.batch_limit for point in self.awake)
