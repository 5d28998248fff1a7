"""What the gateway keeps of a run for its page: the last hour, and the run so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steppe.page.points import Point, columns_of, point_of_tick, together

MOST_POINTS = 720
"""Points of a chart: more than a screen can tell apart."""
_FIRST_WIDTH_S = 1.0


class RecentPoints:
    """The last `span_s` seconds, as at most `MOST_POINTS` points of the same width."""

    def __init__(self, span_s: float) -> None:
        """Begin without points."""
        self._width_s = span_s / MOST_POINTS
        self._points: deque[Point] = deque(maxlen=MOST_POINTS)

    def add(self, point: Point) -> None:
        """Add what follows the last point."""
        newest = self._points[-1] if self._points else None
        if newest is not None and newest.width_s + point.width_s <= self._width_s:
            self._points[-1] = together(newest, point)
        else:
            self._points.append(point)

    @property
    def points(self) -> Sequence[Point]:
        """The points, the oldest first."""
        return tuple(self._points)


class WholeRun:
    """A run from its begin, as at most twice `MOST_POINTS` points that grow wider with it."""

    def __init__(self) -> None:
        """Begin without points."""
        self._width_s = 0.0
        self._points: list[Point] = []

    def add(self, point: Point) -> None:
        """Add what follows the last point."""
        newest = self._points[-1] if self._points else None
        if newest is not None and newest.width_s + point.width_s <= self._width_s:
            self._points[-1] = together(newest, point)
            return
        self._points.append(point)
        if len(self._points) >= 2 * MOST_POINTS:
            pairs = zip(self._points[::2], self._points[1::2], strict=True)
            self._points = [together(first, second) for first, second in pairs]
            self._width_s = max(point.width_s for point in self._points)

    @property
    def points(self) -> Sequence[Point]:
        """The points, the oldest first."""
        return tuple(self._points)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over what was seen of a run.

    Attributes:
        span_s: How long it was seen, s.
        energy_j: Energy, J.
        output_tokens: Output tokens.
        over_budget_j: Energy above the budget, J.
    """

    span_s: float = 0.0
    energy_j: float = 0.0
    output_tokens: float = 0.0
    over_budget_j: float = 0.0

    @property
    def joules_per_token(self) -> float | None:
        """Energy per output token, J; None without a token."""
        return self.energy_j / self.output_tokens if self.output_tokens else None

    def plus(self, point: Point) -> Totals:
        """Return the sums with another point."""
        over_w = max(0.0, point.draw_w - point.budget_w)
        return Totals(
            self.span_s + point.width_s,
            self.energy_j + point.energy_j,
            self.output_tokens + point.output_tokens,
            self.over_budget_j + over_w * point.width_s,
        )


class History:
    """Points of a run for charts, and their sums.

    Attributes:
        totals: The sums over all of them.
    """

    def __init__(self, span_s: float) -> None:
        """Begin without points.

        Args:
            span_s: How far back the finer points reach, s.
        """
        self.totals = Totals()
        self._span_s = span_s
        self._recent, self._whole = RecentPoints(span_s), WholeRun()
        self._ends_s: float | None = None

    def add(
        self, tick: Mapping[str, Any], replicas: Sequence[Mapping[str, Any]], at_s: float = 0.0
    ) -> Point | None:
        """Add a tick; return its point, None if it is no newer than the last one.

        Args:
            tick: Its values, named as in a record.
            replicas: Its replicas.
            at_s: Its time, s since the Unix epoch; 0 if it is not known.
        """
        t_s, ends_s = float(tick["t_s"]), self._ends_s
        if ends_s is not None and t_s <= ends_s:
            return None
        self._ends_s = t_s
        point = point_of_tick(tick, replicas, _width_s(tick, ends_s), at_s)
        self._recent.add(point)
        self._whole.add(point)
        self.totals = self.totals.plus(point)
        return point

    def shown(self) -> dict[str, Any]:
        """Return the columns of both spans as JSON values.

        While the run is shorter than the recent span, both are the run: the finer one is shown.
        """
        run = columns_of(self._whole.points)
        is_finer = len(self._whole.points) >= len(self._recent.points)
        is_short = self.totals.span_s <= self._span_s
        recent = run if is_short and is_finer else columns_of(self._recent.points)
        return {"span_s": self._span_s, "recent": recent, "run": run}

    def whole(self) -> dict[str, Any]:
        """Return the columns of the whole run."""
        return columns_of(self._whole.points)


def _width_s(tick: Mapping[str, Any], ends_s: float | None) -> float:
    """Return the length of a tick's window; of the first one, from its energy and its draw."""
    if ends_s is not None:
        return float(tick["t_s"]) - ends_s
    draw_w, energy_j = float(tick["draw_w"]), float(tick["energy_j"])
    return energy_j / draw_w if draw_w > 0 and energy_j > 0 else _FIRST_WIDTH_S
