"""Measure the frontier of a fleet on its own replicas, under a saturating load."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from steppe.errors import DeviceError, ReplicaError
from steppe.frontier.fit import FrontierFit, SweepWindow
from steppe.frontier.pareto import Frontier

SETTLE_S = 0.6
"""Time after new limits before a window begins: clocks and the running step settle, s."""
WARM_UP_S = 4.0
REST_S = 1.5


class Totals(Protocol):
    """Running totals of a replica at one instant."""

    @property
    def time_s(self) -> float:
        """The instant, s."""
        ...

    @property
    def energy_j(self) -> float:
        """Energy counter, J."""
        ...

    @property
    def output_tokens(self) -> int:
        """Tokens sampled."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens computed."""
        ...

    @property
    def steps(self) -> int:
        """Engine steps."""
        ...


class Bench(Protocol):
    """The replicas under measurement."""

    def set_point(self, replica: str, clock_mhz: int | None, batch_limit: int) -> None:
        """Set the limits of a replica; None: the lowest clock."""
        ...

    def reading(self, replica: str) -> Totals:
        """Return the totals of a replica."""
        ...

    def park(self, replica: str, parked: bool) -> None:
        """Freeze or thaw a replica."""
        ...


@dataclass(frozen=True, slots=True)
class Grid:
    """The operating points to try.

    Attributes:
        clocks_mhz: Clock limits, MHz; empty where the clock cannot be set.
        batch_limits: Batch limits.
        window_s: Length of one measured window, s.
    """

    clocks_mhz: tuple[int, ...]
    batch_limits: tuple[int, ...]
    window_s: float

    @property
    def points(self) -> list[tuple[int, int]]:
        """All pairs of clock and batch limit, the fastest first."""
        clocks = sorted(self.clocks_mhz, reverse=True) or [0]
        return [(c, b) for c in clocks for b in sorted(self.batch_limits, reverse=True)]


@dataclass(frozen=True, slots=True)
class Rest:
    """What a replica draws without work, W."""

    idle_w: float
    asleep_w: float


def spread_clocks(
    clocks_mhz: Sequence[int], count: int, lowest_share: float = 0.0
) -> tuple[int, ...]:
    """Return `count` of the supported clocks, evenly spread, the lowest and highest included.

    Args:
        clocks_mhz: What the GPU supports, rising, MHz.
        count: How many to return.
        lowest_share: Leave out what lies below this share of the highest.
    """
    least_mhz = lowest_share * max(clocks_mhz, default=0)
    clocks_mhz = [clock for clock in clocks_mhz if clock >= least_mhz]
    if len(clocks_mhz) <= count:
        return tuple(clocks_mhz)
    last = len(clocks_mhz) - 1
    return tuple(clocks_mhz[round(i * last / (count - 1))] for i in range(count))


def powers_of_two(largest: int) -> tuple[int, ...]:
    """Return 1, 2, 4 ... up to `largest`, which is included."""
    powers = []
    power = 1
    while power < largest:
        powers.append(power)
        power *= 2
    return (*powers, largest)


def measure_draw_w(bench: Bench, replicas: Sequence[str], seconds: float) -> float:
    """Return the mean draw of one of the replicas, as they are, over the next seconds, W.

    Raises:
        DeviceError: The meters of a replica gave no reading meanwhile.
    """
    spans = _spans(bench, replicas, seconds)
    return sum((b.energy_j - a.energy_j) / (b.time_s - a.time_s) for a, b in spans) / len(spans)


def measure_rest(bench: Bench, replicas: Sequence[str]) -> Rest:
    """Measure the draw of idle and of sleeping replicas, at the lowest clock.

    Raises:
        DeviceError: The meters of a replica gave no reading meanwhile.
    """
    for replica in replicas:
        bench.set_point(replica, None, 1)
    time.sleep(SETTLE_S)
    idle_w = measure_draw_w(bench, replicas, REST_S)
    for replica in replicas:
        bench.park(replica, parked=True)
    time.sleep(SETTLE_S)
    asleep_w = measure_draw_w(bench, replicas, REST_S)
    for replica in replicas:
        bench.park(replica, parked=False)
    return Rest(idle_w, asleep_w)


def sweep(
    bench: Bench,
    replicas: Sequence[str],
    grid: Grid,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[SweepWindow]:
    """Measure every point of the grid; the replicas, alike, share the points out.

    The caller keeps the replicas saturated meanwhile. Starts with the largest batch, so that
    later changes only hold or release sequences that run already.

    Raises:
        ReplicaError: No replica gave a token.
    """
    points = grid.points
    rounds = [points[at : at + len(replicas)] for at in range(0, len(points), len(replicas))]
    for replica in replicas:
        bench.set_point(replica, *points[0])
    time.sleep(WARM_UP_S)
    measured: list[SweepWindow] = []
    for number, todo in enumerate(rounds):
        on_progress(number, len(rounds))
        busy = list(zip(replicas, todo, strict=False))
        for replica, point in busy:
            bench.set_point(replica, *point)
        time.sleep(SETTLE_S)
        spans = _spans(bench, [replica for replica, _ in busy], grid.window_s)
        measured += [_window(p, span) for (_, p), span in zip(busy, spans, strict=True)]
    on_progress(len(rounds), len(rounds))
    if not any(window.output_tokens for window in measured):
        raise ReplicaError("asked for a sweep, found no output token in any window")
    return measured


def frontier_of(fit: FrontierFit, offer: Offer, rest: Rest, source: str) -> Frontier:
    """Return a dense frontier along the fitted curves.

    Args:
        fit: Curves through the measured windows.
        offer: Which operating points to offer.
        rest: What a replica draws without work.
        source: `measured` or `emulated`.
    """
    points = [
        fit.point(clock, batch, offer.prompt_tokens_per_output)
        for clock in offer.clocks_mhz or (0,)
        for batch in offer.batch_limits
    ]
    return Frontier.of(points, asleep_w=rest.asleep_w, idle_w=rest.idle_w, source=source)


@dataclass(frozen=True, slots=True)
class Offer:
    """The operating points that a frontier is to offer.

    Attributes:
        clocks_mhz: Clock limits, MHz.
        largest: Largest batch limit; smaller ones follow in steps of about a quarter.
        prompt_tokens_per_output: The mix of the load.
    """

    clocks_mhz: tuple[int, ...]
    largest: int
    prompt_tokens_per_output: float

    @property
    def batch_limits(self) -> list[int]:
        """Batch limits, rising."""
        return sorted({max(1, round(self.largest * 0.75**i)) for i in range(20)})


def _spans(bench: Bench, replicas: Sequence[str], length_s: float) -> list[tuple[Totals, Totals]]:
    """Return the totals of each replica at both ends of a window.

    Raises:
        DeviceError: The meters of a replica gave no reading in it.
    """
    before = [bench.reading(replica) for replica in replicas]
    time.sleep(length_s)
    after = [bench.reading(replica) for replica in replicas]
    for replica, a, b in zip(replicas, before, after, strict=True):
        if b.time_s <= a.time_s:
            raise DeviceError(f"{replica}: asked for {length_s:g} s of energy, found no reading")
    return list(zip(before, after, strict=True))


def _window(setting: tuple[int, int], span: tuple[Totals, Totals]) -> SweepWindow:
    (clock_mhz, batch_limit), (a, b) = setting, span
    return SweepWindow(
        clock_mhz=clock_mhz,
        batch_limit=batch_limit,
        duration_s=b.time_s - a.time_s,
        energy_j=b.energy_j - a.energy_j,
        steps=b.steps - a.steps,
        prompt_tokens=b.prompt_tokens - a.prompt_tokens,
        output_tokens=b.output_tokens - a.output_tokens,
    )
