"""How far a sweep has come, and how long it still takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from steppe.measure.sweep.point import MeasurePlan, PointStage
from steppe.measure.sweep.result import PointResult

LINE_S = 30.0
"""Time between two lines about points under way where there is no terminal, s."""


def duration_line(points: int, replicas: int, plan: MeasurePlan) -> str:
    """Return the estimated duration of a sweep, in words."""
    rounds = -(-points // replicas)
    shortest, longest = rounds * plan.shortest_point_s, rounds * plan.longest_point_s
    share = f" on {replicas} replicas" if replicas > 1 else ""
    return f"{points} points{share}: about {in_words(shortest)} to {in_words(longest)}"


def in_words(seconds: float) -> str:
    """Return a duration for people: seconds below two minutes, minutes below two hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class SweepProgress:
    """The points of a sweep: those that are measured, and the stage of each under way."""

    def __init__(
        self,
        console: Console,
        total: int,
        bar: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin.

        Args:
            console: Takes a line for each point; where it is no terminal also a line from time to
                time about points under way.
            total: Points to measure.
            bar: A bar for terminals, which has begun.
            clock: Returns the time, s.
        """
        self._console, self._total, self._bar, self._clock = console, total, bar, clock
        self._lock = threading.Lock()
        self._begun_s = self._line_at_s = clock()
        self._done = 0
        self._shares: dict[str, float] = {}
        self._task: TaskID = bar.add_task("measuring", total=total)

    def on_stage(self, stage: PointStage) -> None:
        """Take a new stage of a point; replicas call this from their own threads."""
        with self._lock:
            self._shares[stage.replica] = stage.share
            text = f"{stage.setting.key}: {stage.text}"
            self._bar.update(self._task, completed=self._completed, description=text)
            now_s = self._clock()
            if not self._console.is_terminal and now_s >= self._line_at_s + LINE_S:
                self._line_at_s = now_s
                self._say(f"{text} ({self._left()})")

    def on_point(self, point: PointResult) -> None:
        """Take a measured point."""
        with self._lock:
            self._done += 1
            self._shares.pop(point.replica, None)
            self._line_at_s = self._clock()
            self._bar.update(self._task, completed=self._completed)
            self._say(_line(point) + ("" if self._console.is_terminal else f" ({self._left()})"))

    @property
    def _completed(self) -> float:
        return self._done + sum(self._shares.values())

    def _left(self) -> str:
        completed = self._completed
        if not completed:
            return f"{self._done}/{self._total}"
        left_s = (self._clock() - self._begun_s) * (self._total - completed) / completed
        return f"{self._done}/{self._total}, {in_words(left_s)} left"

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


@contextmanager
def sweep_progress(console: Console, total: int) -> Generator[SweepProgress]:
    """Print each point as it is measured; on a terminal also show a bar with the time left."""
    columns = (
        TextColumn("{task.completed:.1f}/{task.total:.0f}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield SweepProgress(console, total, bar)


def _line(point: PointResult) -> str:
    estimates = point.estimates
    flags = f" [red]{', '.join(point.flags)}[/red]" if point.flags else ""
    if estimates is None:
        return f"{point.setting.key}: no token{flags}"
    joules = estimates.energy_per_output_token
    return (
        f"{point.setting.key}: {joules.value:.3g} J/token ({joules.low:.3g} to {joules.high:.3g}), "
        f"{estimates.output_tps.value:.3g} tokens/s, {estimates.draw_w.value:.3g} W{flags}"
    )
