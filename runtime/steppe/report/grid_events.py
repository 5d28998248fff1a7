"""What the events of the grid asked in a run, and what the site delivered."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from steppe.report.records import GridTick, TickRecord
from steppe.report.tracking import PowerTrace

BAND_SHARE = 0.02
"""The site is within what is allowed while it draws at most this share more."""
SETTLE_S = 10.0
"""Time within which the site has to reach what is allowed after the start of an event, s."""

Verdict = Literal["complied", "exceeded", "not begun"]


class EventSum(TypedDict):
    """An event of the grid over the run; W and J at the site.

    Keys: `event`, its link and id; `starts_s` and `ends_s`, the first and the last time of the run
    in which it set a limit (s; None if it set none); `baseline_w`, the draw before it; `hold_w`,
    what it allowed between its ramps; `asked_j` and `delivered_j`, by how much less energy than the
    baseline it allowed, and the site drew; `reached_after_s`, the time from its start to the first
    tick within what was allowed (None if there was none); `above_s` and `above_j`, the time and the
    energy above what was allowed, from the start on; `above_band_s`, the part of that time more
    than 2 % above it and later than 10 s after the start; `most_over`, the largest excess in that
    part, share of what was allowed (None where that was 0 W and exceeded); `reason`, why the site
    said before the start that it cannot comply (empty if it did not); `verdict`, `complied` if
    `above_band_s` is 0, else `exceeded`; `not begun` for an event that set no limit.

    Where several events run at once, a tick belongs to the one that allows the least.
    """

    event: str
    starts_s: float | None
    ends_s: float | None
    baseline_w: float | None
    hold_w: float | None
    asked_j: float
    delivered_j: float
    reached_after_s: float | None
    above_s: float
    above_j: float
    above_band_s: float
    most_over: float | None
    reason: str
    verdict: Verdict


def event_sums(ticks: Sequence[TickRecord]) -> list[EventSum]:
    """Return the events of a run, in the order in which they were heard."""
    spans_s = PowerTrace.from_ticks(ticks).width_s.tolist()
    found: dict[str, list[tuple[float, TickRecord, GridTick]]] = {}
    for span_s, tick in zip(spans_s, ticks, strict=True):
        if tick.grid is not None and tick.grid.event:
            found.setdefault(tick.grid.event, []).append((span_s, tick, tick.grid))
    return [_sum(event, rows) for event, rows in found.items()]


def _sum(event: str, rows: Sequence[tuple[float, TickRecord, GridTick]]) -> EventSum:
    running = [(span_s, tick, grid) for span_s, tick, grid in rows if grid.target_w is not None]
    last = rows[-1][2]
    reason = next((grid.reason for _, _, grid in reversed(rows) if grid.reason), "")
    starts_s = running[0][1].t_s - running[0][0] if running else None
    over = [_Over.of(span_s, tick, grid) for span_s, tick, grid in running]
    late = [each for each in over if starts_s is not None and each.t_s > starts_s + SETTLE_S]
    above = [each for each in late if each.share > BAND_SHARE]
    within_s = (each.t_s for each in over if each.share <= BAND_SHARE)
    reached_s = next(within_s, None)
    most = max((each.share for each in late), default=0.0)
    return EventSum(
        event=event,
        starts_s=starts_s,
        ends_s=running[-1][1].t_s if running else None,
        baseline_w=last.baseline_w,
        hold_w=last.hold_w,
        asked_j=_energy_j((s, (g.baseline_w or 0.0) - (g.target_w or 0.0)) for s, _, g in running),
        delivered_j=_energy_j((s, g.delivered_w or 0.0) for s, _, g in running),
        reached_after_s=None if reached_s is None or starts_s is None else reached_s - starts_s,
        above_s=math.fsum(each.span_s for each in over if each.watts > 0),
        above_j=_energy_j((each.span_s, each.watts) for each in over),
        above_band_s=math.fsum(each.span_s for each in above),
        most_over=most if math.isfinite(most) else None,
        reason=reason,
        verdict="not begun" if not running else "exceeded" if above else "complied",
    )


@dataclass(frozen=True, slots=True)
class _Over:
    """How far a tick was above what was allowed.

    Attributes:
        t_s: End of the tick, s since the run began.
        span_s: Its length, s.
        watts: How far it was above, W; 0 if it was not.
        share: That as a share of what was allowed; infinite where that was 0 W.
    """

    t_s: float
    span_s: float
    watts: float
    share: float

    @classmethod
    def of(cls, span_s: float, tick: TickRecord, grid: GridTick) -> _Over:
        """Return how far a tick was above."""
        allowed_w = grid.target_w or 0.0
        watts = max(0.0, tick.site_w - allowed_w)
        share = watts / allowed_w if allowed_w > 0 else math.inf if watts > 0 else 0.0
        return cls(tick.t_s, span_s, watts, share)


def _energy_j(parts: Iterable[tuple[float, float]]) -> float:
    return math.fsum(span_s * watts for span_s, watts in parts)
