"""Points of the charts: what a tick says, and what several ticks say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_AWAKE = "awake"
COLUMNS = (
    "t_s",
    "at_s",
    "supply_w",
    "budget_w",
    "draw_w",
    "most_draw_w",
    "awake",
    "batch_limit",
    "clock_mhz",
    "output_tps",
    "demand_tps",
    "waiting",
    "running",
    "joules_per_token",
)
"""Columns of a chart's data, in this order."""
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Point:
    """A time span of a run: means over it, weighted by time, and sums.

    Attributes:
        t_s: Its end, s since the run began.
        at_s: Its end, s since the Unix epoch; 0 in a record, which has no such time.
        width_s: Its length, s.
        supply_w: Power offered, W.
        budget_w: Power budget of the GPUs, W.
        draw_w: Draw of the GPUs, W.
        most_draw_w: Highest draw of its ticks, W.
        awake: Replicas that serve.
        batch_limit: Batch limits of these replicas together, sequences.
        clock_mhz: Mean clock limit of these replicas, MHz.
        output_tps: Output tokens per second.
        demand_tps: Output tokens per second that clients ask for.
        waiting: Requests that wait.
        running: Requests in the engines.
        energy_j: Energy, J.
        output_tokens: Output tokens.
    """

    t_s: float
    at_s: float
    width_s: float
    supply_w: float
    budget_w: float
    draw_w: float
    most_draw_w: float
    awake: float
    batch_limit: float
    clock_mhz: float
    output_tps: float
    demand_tps: float
    waiting: float
    running: float
    energy_j: float
    output_tokens: float

    @property
    def joules_per_token(self) -> float | None:
        """Energy per output token, J; None without a token."""
        return self.energy_j / self.output_tokens if self.output_tokens else None

    def row(self) -> list[float | None]:
        """Return its values in the order of `COLUMNS`, without digits that no chart shows."""
        values = [getattr(self, name) for name in COLUMNS]
        if not self.awake:
            values[COLUMNS.index("clock_mhz")] = None
        return [None if value is None else round(value, _DIGITS) for value in values]


_MEANS = (
    "supply_w",
    "budget_w",
    "draw_w",
    "awake",
    "batch_limit",
    "clock_mhz",
    "output_tps",
    "demand_tps",
    "waiting",
    "running",
)


def point_of_tick(
    tick: Mapping[str, Any], replicas: Sequence[Mapping[str, Any]], width_s: float, at_s: float
) -> Point:
    """Return the point of one tick.

    Args:
        tick: Its values, named as in a record.
        replicas: Its replicas.
        width_s: Length of its window, s.
        at_s: Its time, s since the Unix epoch; 0 if it is not known.
    """
    awake = [replica for replica in replicas if replica["state"] == _AWAKE]
    return Point(
        t_s=tick["t_s"],
        at_s=at_s,
        width_s=width_s,
        supply_w=tick["supply_w"],
        budget_w=tick["budget_w"],
        draw_w=tick["draw_w"],
        most_draw_w=tick["draw_w"],
        awake=len(awake),
        batch_limit=sum(replica["batch_limit"] for replica in awake),
        clock_mhz=sum(replica["clock_mhz"] for replica in awake) / max(1, len(awake)),
        output_tps=tick["output_tps"],
        demand_tps=tick["demand_tps"],
        waiting=tick["waiting"],
        running=tick["running"],
        energy_j=tick["energy_j"],
        output_tokens=tick["output_tokens"],
    )


def together(first: Point, second: Point) -> Point:
    """Return the point of two spans, of which the second follows the first."""
    width_s = first.width_s + second.width_s
    share = second.width_s / width_s if width_s > 0 else 0.5
    means = {
        name: (1 - share) * getattr(first, name) + share * getattr(second, name) for name in _MEANS
    }
    return Point(
        t_s=second.t_s,
        at_s=second.at_s,
        width_s=width_s,
        most_draw_w=max(first.most_draw_w, second.most_draw_w),
        energy_j=first.energy_j + second.energy_j,
        output_tokens=first.output_tokens + second.output_tokens,
        **means,
    )


def columns_of(points: Sequence[Point]) -> dict[str, list[float | None]]:
    """Return points as one list a column, as the charts take them."""
    rows = [point.row() for point in points]
    return {name: [row[index] for row in rows] for index, name in enumerate(COLUMNS)}
