"""A sweep over many points: which, in what order, on which replicas, and what is done already."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from steppe.frontier.fit import FrontierFit, SweepWindow, fit_frontier
from steppe.frontier.pareto import Frontier
from steppe.measure.sweep.fleet_sweep import Offer, Rest, frontier_of
from steppe.measure.sweep.point import REAL_TIME, MeasurePlan, PointTiming, measure_point
from steppe.measure.sweep.result import Phase, PointResult, RestWatts, Setting
from steppe.measure.sweep.subject import Rig
from steppe.roofline.point import OperatingPoint

DECODE_PROMPT_TOKENS = 1
DECODE_OUTPUT_FACTOR = 4
LEAST_DECODE_TOKENS = 128
FEWEST_FOR_FIT = 3


@dataclass(frozen=True, slots=True)
class SweepGrid:
    """The points of a sweep.

    Attributes:
        clocks_mhz: Clock limits, MHz; empty where the clock cannot be set.
        batch_limits: Batch limits.
        lengths: Mean prompt and output lengths, tokens; one pair or more.
        apart: Also measure prefill alone and decode alone, at each clock and the largest batch.
        longest_tokens: Longest prompt and output together that the model takes, tokens.
    """

    clocks_mhz: tuple[int, ...]
    batch_limits: tuple[int, ...]
    lengths: tuple[tuple[int, int], ...]
    apart: bool = True
    longest_tokens: int = 2048

    @property
    def settings(self) -> list[Setting]:
        """Every point, the fastest first, so that the GPU cools slowly and settles soon."""
        clocks = sorted(self.clocks_mhz, reverse=True) or [0]
        batches = sorted(self.batch_limits, reverse=True)
        found = [
            Setting(Phase.MIXED, clock, batch, prompt, output)
            for prompt, output in self.lengths
            for clock in clocks
            for batch in batches
        ]
        if self.apart:
            prompt, output = self.lengths[0]
            found += [Setting(Phase.PREFILL, c, batches[0], prompt, 1) for c in clocks]
            long = self._decode_tokens(output)
            found += [
                Setting(Phase.DECODE, c, batches[0], DECODE_PROMPT_TOKENS, long) for c in clocks
            ]
        return found

    def _decode_tokens(self, output_tokens: int) -> int:
        wanted = max(LEAST_DECODE_TOKENS, DECODE_OUTPUT_FACTOR * output_tokens)
        return max(1, min(wanted, self.longest_tokens // 4))


def run_campaign(
    rigs: Sequence[Rig],
    settings: Sequence[Setting],
    plan: MeasurePlan,
    on_point: Callable[[PointResult], None],
    timing: PointTiming = REAL_TIME,
) -> None:
    """Measure every setting once; the replicas, alike, share the points out.

    Args:
        rigs: The replicas.
        settings: What to measure, in this order.
        plan: How to measure each.
        on_point: Takes each result as it comes, from one thread at a time.
        timing: A clock and a way to wait.

    Raises:
        SteppeError: A replica or a meter failed; the points under way are finished first.
    """
    todo, lock = deque(settings), threading.Lock()

    def work(rig: Rig) -> None:
        while (setting := _next(todo)) is not None:
            result = measure_point(rig, setting, plan, timing)
            with lock:
                on_point(result)

    with ThreadPoolExecutor(len(rigs), thread_name_prefix="measure") as pool:
        calls = [pool.submit(work, rig) for rig in rigs]
        try:
            for call in as_completed(calls):
                call.result()
        finally:
            todo.clear()  # after a failure or Ctrl-C nobody begins another point


def _next(todo: deque[Setting]) -> Setting | None:
    try:
        return todo.popleft()
    except IndexError:
        return None


def left_to_do(settings: Sequence[Setting], done: Collection[str]) -> list[Setting]:
    """Return the settings that are not measured yet, in their order."""
    return [setting for setting in settings if setting.key not in done]


def fit_of(points: Sequence[PointResult]) -> FrontierFit:
    """Fit the frontier's curves through the sound mixed points, one long window each.

    Raises:
        InfeasibleError: Fewer than three of them gave tokens.
    """
    return fit_frontier([_whole(p) for p in points if _serves(p)])


def frontier_from(
    points: Sequence[PointResult], rest: RestWatts, source: str, offer: Offer | None
) -> Frontier:
    """Return the frontier that a sweep found.

    Args:
        points: What was measured; only sound mixed points are used.
        rest: What the replica draws without work.
        source: `measured` or `emulated`.
        offer: Operating points to offer between the measured ones, along fitted curves; None
            where engine steps were not counted. Then, and with fewer than three points, the
            measured ones alone are offered.

    Raises:
        InfeasibleError: No sound point gave tokens.
    """
    idle_w = rest.floor_idle_w or rest.loaded_idle_w or rest.bare_w or 0.0
    asleep_w = rest.asleep_w if rest.asleep_w is not None else idle_w
    measured = [_as_measured(point) for point in points if _serves(point)]
    if offer is not None and len(measured) >= FEWEST_FOR_FIT:
        return frontier_of(fit_of(points), offer, Rest(idle_w, asleep_w), source)
    return Frontier.of(measured, asleep_w=asleep_w, idle_w=idle_w, source=source)


def _serves(point: PointResult) -> bool:
    return point.is_sound and point.setting.phase is Phase.MIXED


def _whole(point: PointResult) -> SweepWindow:
    windows = point.windows
    return SweepWindow(
        clock_mhz=point.setting.clock_mhz,
        batch_limit=point.setting.batch_limit,
        duration_s=sum(window.duration_s for window in windows),
        energy_j=sum(window.energy_j for window in windows),
        steps=sum(window.steps for window in windows),
        prompt_tokens=sum(window.prompt_tokens for window in windows),
        output_tokens=sum(window.output_tokens for window in windows),
    )


def _as_measured(point: PointResult) -> OperatingPoint:
    whole = _whole(point)
    output_tps = whole.output_tokens / whole.duration_s
    batch = point.setting.batch_limit
    return OperatingPoint(
        point.setting.clock_mhz, batch, output_tps, whole.draw_w, batch / output_tps
    )
