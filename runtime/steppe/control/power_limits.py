"""Board power limits from the budget: what holds the draw down when clocks and plans are wrong.

A GPU does not draw more than its board power limit for longer than its own control takes (tens of
milliseconds on a V100: GridPilot, CC-BY 4.0). The limits of all GPUs therefore keep the sum of
draws near the budget whatever engines and plans do, as far down as the lowest limits reach. In
normal operation clocks set the draw, and limits are only a ceiling above it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

HEADROOM = 1.1
"""Limit of a serving GPU over the draw that its plan expects, where the budget allows it: the draw
of single steps spreads around that of its operating point, and a limit that cuts the peaks would
disturb the clock control."""
RISE_SHARE = 0.1
"""Most that a limit rises in a tick beyond what the plan needs, share of the GPU's range. A budget
that flickers then moves limits down only."""
FALL_TICKS = 5
"""The fastest fall of the budget in so many ticks is assumed to go on when ticks stay out."""
STEPS_PER_PERIOD = 4
"""Steps of a schedule in one control period: a known ramp is followed this finely."""
LATE_PERIODS = 1.5
"""A tick that is no later than this counts as on time, control periods."""
SAME_SHARE = 0.01
"""A limit that falls by less than this share is not a step of its own: a setter takes 10 to 20 ms
(Zeus, issue 29). The sum of limits is at most so much above the budget meanwhile."""
AFTERWARDS_S = 5.0
"""How long lowest limits last once engines should have paused by themselves, s: the step in which
they do so may take seconds."""


@dataclass(frozen=True, slots=True)
class LimitedGpu:
    """What board limits need to know of one GPU.

    Attributes:
        name: Its name.
        lowest_w: Lowest board power limit, W.
        highest_w: Highest board power limit, W.
        expected_w: Draw that the plan expects of it, W.
        asleep: Whether it does no work. It then counts with its expected draw, which is below the
            lowest limit.
    """

    name: str
    lowest_w: float
    highest_w: float
    expected_w: float
    asleep: bool = False

    @property
    def least_w(self) -> float:
        """What it counts at its lowest limit, W."""
        return min(self.lowest_w, self.expected_w) if self.asleep else self.lowest_w

    @property
    def needed_w(self) -> float:
        """The limit that its plan needs, W."""
        return self.lowest_w if self.asleep else self._within(HEADROOM * self.expected_w)

    @property
    def rooms_w(self) -> tuple[float, float, float]:
        """Watts from the lowest limit to the expected draw, to the headroom, to the highest."""
        if self.asleep:
            return (0.0, 0.0, 0.0)
        expected_w = self._within(self.expected_w)
        return (
            expected_w - self.lowest_w,
            self.needed_w - expected_w,
            self.highest_w - self.needed_w,
        )

    def _within(self, limit_w: float) -> float:
        return min(max(limit_w, self.lowest_w), self.highest_w)


def least_limits_w(gpus: Sequence[LimitedGpu]) -> float:
    """Return what the GPUs may draw in sum at their lowest limits, W.

    Sleeping GPUs count with their draw. Below this, board limits alone cannot keep a budget, and
    replicas have to sleep first.
    """
    return math.fsum(gpu.least_w for gpu in gpus)


def most_awake(budget_w: float, replicas: int, lowest_w: float, asleep_w: float) -> int:
    """Return how many replicas may be awake so that board limits can keep a budget.

    Args:
        budget_w: The budget of the GPUs, W.
        replicas: Size of the fleet.
        lowest_w: Sum of the lowest board limits of one replica, W.
        asleep_w: Draw of one sleeping replica, W.
    """
    if lowest_w <= asleep_w:
        return replicas if budget_w >= replicas * asleep_w else 0
    left_w = budget_w - replicas * asleep_w
    return min(replicas, max(0, math.floor(left_w / (lowest_w - asleep_w) + 1e-9)))


def divide(gpus: Sequence[LimitedGpu], budget_w: float) -> dict[str, float]:
    """Divide a budget into board limits, W, by name.

    Every GPU gets its lowest limit. What is left goes to what the plan expects of each serving GPU,
    then to the headroom above that, then to all of them up to their highest limit, in proportion to
    what is missing. The limits, with sleeping GPUs at their draw, sum to the budget at most, unless
    the lowest limits alone exceed it (`least_limits_w`).
    """
    limits_w = {gpu.name: gpu.lowest_w for gpu in gpus}
    left_w = max(0.0, budget_w - least_limits_w(gpus))
    for part in range(3):
        rooms_w = [gpu.rooms_w[part] for gpu in gpus]
        room_w = math.fsum(rooms_w)
        share = min(1.0, left_w / room_w) if room_w > 0 else 0.0
        for gpu, this_w in zip(gpus, rooms_w, strict=True):
            limits_w[gpu.name] += share * this_w
        left_w = max(0.0, left_w - room_w)
    return {gpu.name: min(limits_w[gpu.name], gpu.highest_w) for gpu in gpus}


def follow(
    gpus: Sequence[LimitedGpu], before_w: Mapping[str, float], target_w: Mapping[str, float]
) -> dict[str, float]:
    """Return the limits of this tick, W: down at once, up slowly.

    A limit rises at once as far as the plan needs it, and by `RISE_SHARE` of the range beyond that.

    Args:
        gpus: The GPUs.
        before_w: The limits of the tick before; a GPU without one is at its lowest.
        target_w: The limits that the budget allows.
    """
    limits_w = {}
    for gpu in gpus:
        rise_w = RISE_SHARE * (gpu.highest_w - gpu.lowest_w)
        risen_w = max(gpu.needed_w, before_w.get(gpu.name, gpu.lowest_w) + rise_w)
        limits_w[gpu.name] = min(target_w[gpu.name], risen_w)
    return limits_w


@dataclass(frozen=True, slots=True)
class PowerSchedule:
    """Board limits from now on, in case no tick renews them.

    Attributes:
        after_s: When each step begins, s from now; the first at 0.
        limits_w: The limits of each GPU at these times, W; none rises.
        keep_s: How long the last step lasts if the lease is lost, s from now.
    """

    after_s: tuple[float, ...]
    limits_w: Mapping[str, tuple[float, ...]]
    keep_s: float


class PowerLimiter:
    """Makes the schedule of a tick from the budget and the plan.

    Until the next tick is late, the schedule follows the budget as it is known. After that it
    assumes, too, that the budget falls as fast as it did lately, for a live signal is not known
    ahead. When engines should have paused by themselves, all limits fall to the lowest.
    """

    def __init__(
        self, budget_w: Callable[[float], float], period_s: float, deadman_s: float
    ) -> None:
        """Begin with all limits at the lowest.

        Args:
            budget_w: Returns the budget of the GPUs at a time, as far as it is known now, W.
            period_s: Control period, s.
            deadman_s: Replicas pause by themselves after so long without a tick, s.
        """
        self._budget_w, self._period_s, self._deadman_s = budget_w, period_s, deadman_s
        self._before_w: dict[str, float] = {}
        self._seen: list[tuple[float, float]] = []

    def schedule(self, gpus: Sequence[LimitedGpu], now_s: float) -> PowerSchedule:
        """Return the schedule of a tick."""
        self._seen = [*self._seen[-FALL_TICKS:], (now_s, self._budget_w(now_s))]
        step_s = self._period_s / STEPS_PER_PERIOD
        target_w = divide(gpus, self._assumed_w(now_s, 0.0, step_s))
        self._before_w = follow(gpus, self._before_w, target_w)
        after_s, rows = [0.0], [self._before_w]
        for step in range(1, math.ceil(self._deadman_s / step_s)):
            at_s = step * step_s
            target_w = divide(gpus, self._assumed_w(now_s, at_s, at_s + step_s))
            row = {name: min(limit_w, rows[-1][name]) for name, limit_w in target_w.items()}
            if sum(row.values()) < (1 - SAME_SHARE) * sum(rows[-1].values()):
                after_s.append(at_s)
                rows.append(row)
        after_s.append(self._deadman_s)
        rows.append({gpu.name: gpu.lowest_w for gpu in gpus})
        return PowerSchedule(
            after_s=tuple(after_s),
            limits_w={gpu.name: tuple(row[gpu.name] for row in rows) for gpu in gpus},
            keep_s=self._deadman_s + AFTERWARDS_S,
        )

    def _assumed_w(self, now_s: float, from_s: float, to_s: float) -> float:
        """Return the budget to keep between two times from now, W."""
        known_w = min(self._budget_w(now_s + from_s), self._budget_w(now_s + to_s))
        if from_s < LATE_PERIODS * self._period_s:
            return known_w
        return min(known_w, max(0.0, self._seen[-1][1] - self._fall_w_per_s() * to_s))

    def _fall_w_per_s(self) -> float:
        """Return the fastest fall of the budget between two of the last ticks, W/s."""
        falls = [
            (before_w - after_w) / (after_s - before_s)
            for (before_s, before_w), (after_s, after_w) in pairwise(self._seen)
            if after_s > before_s
        ]
        return max(0.0, *falls) if falls else 0.0
