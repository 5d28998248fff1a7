"""Where the controller wants the fleet to be."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.frontier.mix import Mix


@dataclass(frozen=True, slots=True)
class AwakeBounds:
    """How many replicas may be awake.

    Attributes:
        least: At least so many.
        most: At most so many.
    """

    least: int
    most: int

    def nearest(self, awake: int) -> int:
        """Return the number within the bounds that is nearest to `awake`."""
        return min(max(awake, self.least), self.most)


@dataclass(frozen=True, slots=True)
class Plan:
    """Target of the fleet until the next tick.

    Attributes:
        awake: The operating point of each replica that serves, the largest draw first; the
            other replicas sleep.
        draw_w: Draw of the whole fleet under it at saturation, W.
        draining: How many other replicas may finish their requests at the floor meanwhile.
        feasible: False when even a fleet asleep draws more than the budget.
        battery_w: What the battery shall give from now on, W at the GPUs; take, below 0; None
            where it follows its own rule.
    """

    awake: Mix
    draw_w: float
    draining: int = 0
    feasible: bool = True
    battery_w: float | None = None

    @property
    def output_tps(self) -> float:
        """Output tokens per second that the plan serves at saturation."""
        return sum(point.output_tps for point in self.awake)

    @property
    def slots(self) -> int:
        """Sequences that the plan decodes at once at most."""
        return sum(point.batch_limit for point in self.awake)
