"""Measure many operating points on one replica or several."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from steppe.measure.sweep.point import (
    REAL_TIME,
    MeasurePlan,
    PointStage,
    PointTiming,
    ignore_stage,
    measure_point,
)
from steppe.measure.sweep.result import PointResult, Setting
from steppe.measure.sweep.subject import Rig


def run_sweep(
    rigs: Sequence[Rig],
    settings: Sequence[Setting],
    plan: MeasurePlan,
    on_point: Callable[[PointResult], None],
    timing: PointTiming = REAL_TIME,
    *,
    on_stage: Callable[[PointStage], None] = ignore_stage,
) -> None:
    """Measure every setting once; equal replicas share the points.

    Args:
        rigs: The replicas.
        settings: The points, in the order in which they begin.
        plan: How to measure each.
        on_point: Takes each result as it comes, from one thread at a time.
        timing: A clock and a way to wait.
        on_stage: Takes each new stage of a point, from the thread of its replica.

    Raises:
        SteppeError: A replica or a meter failed; points under way are finished first.
    """
    todo, lock = deque(settings), threading.Lock()

    def measure_next(rig: Rig) -> None:
        while (setting := _next(todo)) is not None:
            result = measure_point(rig, setting, plan, timing, on_stage)
            with lock:
                on_point(result)

    with ThreadPoolExecutor(len(rigs), thread_name_prefix="measure") as pool:
        calls = [pool.submit(measure_next, rig) for rig in rigs]
        try:
            for call in as_completed(calls):
                call.result()
        finally:
            todo.clear()  # after a failure or Ctrl-C no thread begins another point


def _next(todo: deque[Setting]) -> Setting | None:
    try:
        return todo.popleft()
    except IndexError:
        return None
